"""Operators with a reference, a CPU path and a GPU path."""
