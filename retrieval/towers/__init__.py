"""The item tower and the user tower as they serve."""
