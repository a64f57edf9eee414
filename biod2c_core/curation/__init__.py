"""Section 2: building BioVGQ (image filter, question generation, text queue)."""
