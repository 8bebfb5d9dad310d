"""Choosing an index by measurement: benchmark, tuner, filters."""
