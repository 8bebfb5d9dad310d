"""Ablations: the same small data in every run, nothing run twice, and new items that no training saw."""

from __future__ import annotations

EPOCH = ("--set", "retrieval.history.epochs=1", "--set", "retrieval.text.examples=0")
