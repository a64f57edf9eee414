"""One file a command: options in, one call of the core, the result out."""
