"""Measurements: latency and recall of a bundle, what else a shop could take, what a setting of the towers does."""

from __future__ import annotations

from typing import TYPE_CHECKING

from retrieval.lazy import exports

if TYPE_CHECKING:
    from benchmarks.environment import Probe as Probe
    from benchmarks.environment import machine as machine
    from benchmarks.environment import probe as probe
    from benchmarks.latency import cold_starts as cold_starts
    from benchmarks.latency import workload as workload
    from benchmarks.load import Load as Load
    from benchmarks.load import closed_loop as closed_loop
    from benchmarks.load import open_loop as open_loop
    from benchmarks.results import Line as Line
    from benchmarks.results import Run as Run

_MODULES = {
    "benchmarks.environment": "Probe machine probe",
    "benchmarks.latency": "cold_starts workload",
    "benchmarks.load": "Load closed_loop open_loop",
    "benchmarks.results": "Line Run",
}
__all__ = [
    "Line",
    "Load",
    "Probe",
    "Run",
    "closed_loop",
    "cold_starts",
    "machine",
    "open_loop",
    "probe",
    "workload",
]
__getattr__, __dir__ = exports(__name__, _MODULES)
