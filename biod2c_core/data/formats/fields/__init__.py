"""From the fields of a published row to those of a record."""
