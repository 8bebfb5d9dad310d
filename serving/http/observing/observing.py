"""Puts together what observes the requests of a server, before it forks its workers."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field

from serving.http.observing.logs import RequestLog, structured
from serving.http.observing.metrics import Metrics, shared_by_workers
from serving.http.observing.recent import Recent
from serving.http.observing.seen import Observer
from serving.http.observing.tracing import Tracing, is_configured


@dataclass(frozen=True, kw_only=True)
class Observing:
    """What observes one worker."""

    metrics: Metrics = field(default_factory=Metrics)
    recent: Recent = field(default_factory=Recent)
    worker: int = 0
    others: tuple[Observer, ...] = ()

    @property
    def observers(self) -> tuple[Observer, ...]:
        """All that are told of a request of this worker."""
        return (self.metrics, self.recent.of_worker(self.worker), *self.others)


@contextmanager
def observing(workers: int) -> Iterator[Observing]:
    """Metrics, the last minute, logs on stderr, and traces where the environment names a collector. Raises
    MissingDependency where it does and OpenTelemetry is not installed."""
    traces = (Tracing(),) if is_configured() else ()
    with structured(sys.stderr), nullcontext() if workers == 1 else shared_by_workers():
        yield Observing(metrics=Metrics(), recent=Recent(workers), others=(RequestLog(sys.stderr), *traces))
