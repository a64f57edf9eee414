"""Where the filter runs: in processes of this machine, or on a Ray cluster."""
