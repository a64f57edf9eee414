"""Section 4.2: predictions and metrics."""
