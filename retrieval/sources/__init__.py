"""Candidate sources other than the towers, and their fusion with the towers."""
