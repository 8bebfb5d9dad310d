"""Measurements: latency of a bundle's live release, what else a shop could take, what a setting of the towers does."""

from __future__ import annotations

from typing import TYPE_CHECKING

from retrieval.lazy import exports

if TYPE_CHECKING:
    from benchmarks.latency import Timing as Timing
    from benchmarks.latency import cold_starts as cold_starts
    from benchmarks.latency import machine as machine
    from benchmarks.latency import time_calls as time_calls
    from benchmarks.latency import workload as workload

_MODULES = {"benchmarks.latency": "Timing cold_starts machine time_calls workload"}
__all__ = [
    "Timing",
    "cold_starts",
    "machine",
    "time_calls",
    "workload",
]
__getattr__, __dir__ = exports(__name__, _MODULES)
