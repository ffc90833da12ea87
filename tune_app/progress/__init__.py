"""Display of a running search."""
