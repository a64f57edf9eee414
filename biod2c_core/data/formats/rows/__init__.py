"""Rows out of files, in bounded memory."""
