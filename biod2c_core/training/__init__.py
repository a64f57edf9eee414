"""Section 4.1: two-stage training."""
