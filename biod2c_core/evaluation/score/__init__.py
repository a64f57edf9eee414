"""Scoring answers by a named convention."""
