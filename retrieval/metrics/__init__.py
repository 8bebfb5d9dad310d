"""Ranking metrics, metrics beyond accuracy, and baselines."""
