"""Conventions for multiple choice; they apply to records with choices."""
