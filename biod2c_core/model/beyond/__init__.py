"""What goes beyond the paper: each plugs into the fusion, or adds a loss."""
