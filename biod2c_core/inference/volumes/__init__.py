"""A question about all pictures of a volume: which of them, and what they say together."""
