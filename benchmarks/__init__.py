"""Measurements: latency and recall of a bundle, what else a shop could take, what a setting of the towers does."""

from __future__ import annotations

from typing import TYPE_CHECKING

from retrieval.lazy import exports

if TYPE_CHECKING:
    from benchmarks.environment import Probe as Probe
    from benchmarks.environment import machine as machine
    from benchmarks.environment import probe as probe
    from benchmarks.latency.by_stage import cold_starts as cold_starts
    from benchmarks.latency.by_stage import workload as workload
    from benchmarks.latency.load import Load as Load
    from benchmarks.latency.load import closed_loop as closed_loop
    from benchmarks.latency.load import open_loop as open_loop
    from benchmarks.result_lines import Line as Line
    from benchmarks.result_lines import Run as Run

_MODULES = {
    "benchmarks.environment": "Probe machine probe",
    "benchmarks.latency.by_stage": "cold_starts workload",
    "benchmarks.latency.load": "Load closed_loop open_loop",
    "benchmarks.result_lines": "Line Run",
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
