"""Answers about one image, and where the model looked."""
