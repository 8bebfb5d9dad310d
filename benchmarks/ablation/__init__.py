"""Ablations of the towers' settings."""
