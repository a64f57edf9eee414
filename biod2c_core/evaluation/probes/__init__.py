"""What a score does not show: whether the model looks, whether it keeps to what it says."""
