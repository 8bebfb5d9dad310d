"""What is found and in which order: recall, slices, revenue."""
