"""An OpenAI-compatible endpoint: requests, dynamic batches, metrics, one page."""
