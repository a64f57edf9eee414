"""Conventions whose numbers come from a language model, and depend on it."""
