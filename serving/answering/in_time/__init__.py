"""Answers in time: what is left out where time is short or a part fails, and batches that callers share."""
