"""Every stage measured, over batches of requests."""
