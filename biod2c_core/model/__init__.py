"""Section 3: the model and its numbered equations."""
