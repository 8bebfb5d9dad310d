"""Lengths of time in microseconds, the unit of every timestamp."""

SECOND, HOUR, DAY = 1_000_000, 3_600_000_000, 86_400_000_000
