"""On what a run computes: processes, engines, number formats, kernels."""
