"""The GPT score: a language model as the judge, and how far to trust it."""
