"""Intervals, paired tests, baselines, overlap with training."""
