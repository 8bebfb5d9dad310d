"""Keeps what a release counts up to date with the events that are recorded."""
