"""Latency of answers, alone and under load."""
