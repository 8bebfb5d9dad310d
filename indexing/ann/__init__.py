"""Vector indexes, exact and approximate, on CPUs and GPUs."""
