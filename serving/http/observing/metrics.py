"""What Prometheus reads at `/metrics`: latency, answers, what was degraded, the queue, and what answers.

Several workers add to files of one folder, and whichever is asked tells the sum. No label holds what a caller sends.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Generic, TypeVar

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics, values
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.metrics_core import GaugeMetricFamily, InfoMetricFamily, Metric
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead
from prometheus_client.registry import Collector

from indexing.bundle.manifest import MANIFEST
from indexing.bundle.verify import segment_path
from serving.answering.in_time.otherwise import FAILED, NO_TIME, QUEUE_FULL
from serving.answering.pipeline import IN_TIME
from serving.http.observing.seen import Answered, Seen
from serving.texts.catalogue import catalogue

if TYPE_CHECKING:
    from serving.answering.release_state import ReleaseState

CONTENT_TYPE = CONTENT_TYPE_LATEST
FOLDER_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"
REQUEST_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10)
STAGE_SECONDS = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1)
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
OTHER = "other"
FEWER_PLACES = "fewer places"
REASONS = (NO_TIME, FAILED, QUEUE_FULL)
M = TypeVar("M", Counter, Gauge, Histogram)
PARTS = tuple(way.part for ways in IN_TIME.ways.values() for way in ways)


class _ByLabels(Generic[M]):
    """What a metric counts by its labels: to look it up in the metric takes longer than to count."""

    def __init__(self, metric: M) -> None:
        self._metric: M = metric
        self._found: dict[tuple[str, ...], M] = {}

    def __call__(self, *labels: str) -> M:
        found = self._found.get(labels)
        if found is None:
            found = self._found[labels] = self._metric.labels(*labels)
        return found


class Metrics:
    """Counts requests and answers; see `docs/server.md` for what each metric means."""

    def __init__(self) -> None:
        disable_created_metrics()
        self._registry = CollectorRegistry()
        self._requests = self._counter("requests", "Requests that have ended.", "route", "method", "status")
        self._request_seconds = self._histogram(
            "request", "Seconds from a request to its answer.", REQUEST_SECONDS, "route"
        )
        self._stage_seconds = self._histogram(
            "stage", "Seconds of a stage of an answer.", STAGE_SECONDS, "stage", "task"
        )
        self._answers = self._counter("answers", "Answers of the engine.", "task")
        self._empty = self._counter("empty_answers", "Answers without an item.", "task")
        self._cut = self._counter("degraded_answers", "Answers of which something was left out.", "task")
        self._stood_in = self._counter("fallback_answers", "Answers in which something stood in for another.", "task")
        self._degraded = self._counter("degraded", "What was left out of answers, and why.", "part", "reason")
        self._fallbacks = self._counter("fallbacks", "What stood in for what was missing.", "fallback")
        self._events = Counter("shortlist_events_recorded", "Events that were new.", registry=self._registry)
        self._queue = _ByLabels(
            Gauge(
                "shortlist_queue",
                "Requests that run, and that wait.",
                ["state"],
                multiprocess_mode="livesum",
                registry=self._registry,
            )
        )

    def ended(self, seen: Seen) -> None:
        """See `serving.http.observing.seen.Observer`."""
        method = seen.method if seen.method in METHODS else OTHER
        self._requests(seen.route, method, str(seen.status)).inc()
        self._request_seconds(seen.route).observe(seen.seconds)
        if seen.events:
            self._events.inc(seen.events)
        for answered in seen.answers:
            self._answered(answered)

    def close(self) -> None:
        """See `serving.http.observing.seen.Observer`."""

    def queue(self, running: int, waiting: int) -> None:
        """How many requests of this process run and wait now."""
        self._queue("running").set(running)
        self._queue("waiting").set(waiting)

    def text(self, state: ReleaseState | None, *, now: float | None = None) -> bytes:
        """All metrics of all workers, and what answers: the release of a state and the age of its index at `now`,
        seconds since 1970."""
        told = generate_latest(_all_workers() or self._registry)
        if state is None:
            return told
        release = CollectorRegistry()
        release.register(_Release(state, time.time() if now is None else now))
        return told + generate_latest(release)

    def _counter(self, name: str, told: str, *labels: str) -> _ByLabels[Counter]:
        return _ByLabels(Counter(f"shortlist_{name}", told, labels, registry=self._registry))

    def _histogram(self, name: str, told: str, seconds: Sequence[float], *labels: str) -> _ByLabels[Histogram]:
        made = Histogram(f"shortlist_{name}_seconds", told, labels, buckets=seconds, registry=self._registry)
        return _ByLabels(made)

    def _answered(self, answered: Answered) -> None:
        task, answer = answered
        self._answers(task).inc()
        for count, happened in (
            (self._empty, not answer.items),
            (self._cut, bool(answer.degraded)),
            (self._stood_in, bool(answer.fallbacks)),
        ):
            count(task).inc(happened)  # by 0, too, so that a share of none is 0
        for stage, ms in answer.timings_ms.items():
            self._stage_seconds(stage, task).observe(ms / 1_000)
        for cut in answer.degraded:
            self._degraded(*part_and_reason(cut)).inc()
        for code in answer.fallbacks:
            self._fallbacks(fallback(code)).inc()


class _Release(Collector):
    """The release that answers, the same in every worker."""

    def __init__(self, state: ReleaseState, now: float) -> None:
        self._state, self._now = state, now

    def collect(self) -> Iterable[Metric]:
        """See prometheus_client."""
        version, release = self._state.version, self._state.release
        yield InfoMetricFamily("shortlist_release", "The release that answers.", {"release": release.id})
        yield self._age("release", "Seconds since the release was made.", _seconds(release.created))
        with suppress(OSError):  # its files may be pruned while they are open
            yield self._age("index", "Seconds since the index was built or last updated.", _changed(self._state))
        yield GaugeMetricFamily("shortlist_index_revision", "Updates of the release's index.", version.revision)

    def _age(self, of: str, told: str, since: float) -> Metric:
        return GaugeMetricFamily(f"shortlist_{of}_age_seconds", told, max(0.0, self._now - since))


def part_and_reason(cut: str) -> tuple[str, str]:
    """What an answer's `degraded` says, as one of a few parts and reasons.

    >>> part_and_reason("rerank: failed"), part_and_reason("rerank, full model: 2 of 30 places")
    (('rerank', 'failed'), ('rerank', 'fewer places'))
    """
    part = next((part for part in PARTS if cut.startswith(part)), OTHER)
    reason = cut.rpartition(": ")[2]
    return part, reason if reason in REASONS else FEWER_PLACES if reason.endswith(" places") else OTHER


def fallback(code: str) -> str:
    """One of the codes of `fallbacks`, without its details.

    >>> fallback("popular items"), fallback("the order of the sources (needs lightgbm)"), fallback("new")
    ('popular items', 'the order of the sources', 'other')
    """
    head = code.partition(" (")[0]
    return head if head in catalogue("en")["fallback"] else OTHER


@contextmanager
def shared_by_workers() -> Iterator[Path]:
    """A folder in which the metrics of this process, and of those that it forks, are added up; removed at the end.

    Metrics have to be made within.
    """
    before = values.ValueClass
    with TemporaryDirectory(prefix="shortlist-metrics-") as folder:
        os.environ[FOLDER_VARIABLE] = folder
        values.ValueClass = values.MultiProcessValue()
        try:
            yield Path(folder)
        finally:
            values.ValueClass = before
            del os.environ[FOLDER_VARIABLE]


def worker_ended(process: int) -> None:
    """What a worker that ended had running is not counted any more; what it counted is."""
    if folder := os.environ.get(FOLDER_VARIABLE):
        mark_process_dead(process, folder)


def _all_workers() -> CollectorRegistry | None:
    folder = os.environ.get(FOLDER_VARIABLE)
    if folder is None:
        return None
    registry = CollectorRegistry()
    MultiProcessCollector(registry, folder)
    return registry


def _seconds(created: str) -> float:
    return datetime.fromisoformat(created).timestamp()


def _changed(state: ReleaseState) -> float:
    """When the newest files of an index were written, seconds since 1970."""
    version = state.version
    folder = segment_path(version.folder, version.revision) if version.revision else version.folder
    return (folder / MANIFEST).stat().st_mtime
