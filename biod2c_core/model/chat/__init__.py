"""The chat templates of tokenizers, rendered within limits."""
