"""The server: an engine behind HTTP, with limits, keys, metrics and a page."""
