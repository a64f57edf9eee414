"""Where the model looks (section 4.5): attention of blocks and tokens to a map over the image."""
