"""Answering every question of a data set."""
