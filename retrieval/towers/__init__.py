"""The item tower and the user tower: modules, item features, cold start, serving."""
