"""Audit: what was asked and answered, kept line by line, and asked again of another release."""
