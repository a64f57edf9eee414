"""Conventions for questions with free answers, yes and no among them."""
