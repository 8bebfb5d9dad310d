"""Features of candidates: what the second stage orders a shortlist by."""
