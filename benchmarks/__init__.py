"""Benchmarks: latency and quality of a bundle, other libraries beside it, and ablations of the towers' settings."""

from __future__ import annotations

from typing import TYPE_CHECKING

from retrieval.lazy import exports

if TYPE_CHECKING:
    from benchmarks.environment import Probe as Probe
    from benchmarks.environment import machine as machine
    from benchmarks.environment import probe as probe
    from benchmarks.latency.by_stage import cold_starts as cold_starts
    from benchmarks.latency.load import Load as Load
    from benchmarks.latency.load import closed_loop as closed_loop
    from benchmarks.latency.load import open_loop as open_loop
    from benchmarks.latency.workload import Workload as Workload
    from benchmarks.result_lines import Line as Line
    from benchmarks.result_lines import Run as Run

    __version__: str

_MODULES = {
    "benchmarks.environment": "Probe machine probe",
    "benchmarks.latency.by_stage": "cold_starts",
    "benchmarks.latency.load": "Load closed_loop open_loop",
    "benchmarks.latency.workload": "Workload",
    "benchmarks.result_lines": "Line Run",
}
__all__ = [
    "Line",
    "Load",
    "Probe",
    "Run",
    "Workload",
    "closed_loop",
    "cold_starts",
    "machine",
    "open_loop",
    "probe",
]
__getattr__, __dir__ = exports(__name__, _MODULES)
