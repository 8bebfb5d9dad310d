"""Metrics of ranking, metrics beyond accuracy, baselines."""
