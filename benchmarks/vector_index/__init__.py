"""Vector indexes measured, ours and other libraries'."""
