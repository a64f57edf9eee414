"""Which weights of a run become its model: when they are validated, which are best, and their average."""
