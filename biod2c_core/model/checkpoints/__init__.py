"""Checkpoint folders: loading, saving, converting, publishing."""
