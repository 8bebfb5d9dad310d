"""One file a group of features."""
