"""Section 2's data path: records, formats, images, batches."""
