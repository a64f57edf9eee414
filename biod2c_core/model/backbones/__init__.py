"""Vision towers and language models of other libraries: one file or class each."""
