"""A result for people: tables in Markdown and LaTeX, and one HTML page that needs no network."""
