"""One thread that owns a device: everything that touches the device runs there, one job after the other.

For libraries whose device objects cannot be used from several threads, or freed by one thread while another loads.
Searches that wait at the same time are batched into one call.
"""

from __future__ import annotations

import os
import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, Generic, Protocol, TypeAlias, TypeVar

import numpy as np

from retrieval.encoders.runtime import FORKED_GPU
from retrieval.errors import BadConfig
from retrieval.topk import Hits, Vectors

MAX_QUERIES = 1_024  # in one call
MAX_WAIT = 0.0005  # seconds: the longest that the first search of a call waits for others

T = TypeVar("T")
S = TypeVar("S", bound="Searched")


class Searched(Protocol):
    """An object on the device; `search` is called by the owning thread alone."""

    def search(self, queries: Vectors, k: int) -> Hits:
        """The k best rows of each query float32 [n, dim]."""
        ...


@dataclass
class Slot(Generic[T]):
    """Holds an object on the device; empty once that was freed."""

    content: T | None = None


@dataclass(frozen=True)
class _Step:
    """A job on the device other than a search."""

    step: Callable[[], object]
    done: Future[object] = field(default_factory=Future)


@dataclass(frozen=True)
class _Search:
    slot: Slot[Any]
    queries: Vectors
    k: int
    done: Future[Hits] = field(default_factory=Future)


_Job: TypeAlias = _Step | _Search | None  # None ends the thread


class Dispatcher:
    """Takes jobs for the device from any thread, and runs them in its own thread in the order of arrival.

    Consecutive searches of one object are batched into one call of at most `max_queries` queries. Searches that already
    wait always join; for further ones a call waits `max_wait` seconds, if the call before it was a batch too.
    """

    def __init__(self, *, max_queries: int = MAX_QUERIES, max_wait: float = MAX_WAIT) -> None:
        self._max_queries = max_queries
        self._max_wait = max_wait
        # reentrant: a finalizer may call put during another put
        self._jobs: queue.SimpleQueue[_Job] = queue.SimpleQueue()
        self._ahead: deque[_Job] = deque()  # only the thread uses it: taken from the queue, not yet run
        self._was_shared = False
        self._process = os.getpid()
        self._thread = threading.Thread(target=self._work, name="device", daemon=True)
        self._thread.start()

    def make(self, make: Callable[[], T]) -> Slot[T]:
        """Call `make` on the device's thread and wait for it; raises what it raised, BadConfig in a forked process."""
        slot = Slot[T]()

        def fill() -> None:
            slot.content = make()

        self._put(step := _Step(fill))
        step.done.result()
        return slot

    def free(self, slot: Slot[T]) -> None:
        """Have the device's thread free a slot's object, after the jobs given before; returns at once."""

        def empty() -> None:
            slot.content = None

        if os.getpid() == self._process:
            self._jobs.put(_Step(empty))

    def search(self, slot: Slot[S], queries: Vectors, k: int) -> Hits:
        """Search the object of a slot for the k best rows of each query float32 [n, dim], and wait for them.

        Raises what the search raised, BadConfig in a forked process.
        """
        self._put(search := _Search(slot, np.ascontiguousarray(queries, np.float32), k))
        return search.done.result()

    def close(self) -> None:
        """Run the jobs that were already given, then end the thread."""
        self._jobs.put(None)
        self._thread.join()

    def _put(self, job: _Job) -> None:
        if os.getpid() != self._process:
            raise BadConfig(FORKED_GPU)
        self._jobs.put(job)

    def _work(self) -> None:
        while self._run(self._ahead.popleft() if self._ahead else self._jobs.get()):
            pass

    def _run(self, job: _Job) -> bool:
        """Run a job and the searches that join it; False for the last job. Holds no reference to them afterwards."""
        if isinstance(job, _Step):
            _resolve([job.done], lambda: [job.step()])
        elif job is not None:
            batch = self._batch_with(job)
            self._was_shared = len(batch) > 1
            _resolve([search.done for search in batch], lambda: _search_all(batch))
        return job is not None

    def _batch_with(self, first: _Search) -> list[_Search]:
        batch, n_queries = [first], len(first.queries)
        until = time.monotonic() + (self._max_wait if self._was_shared else 0)
        while n_queries < self._max_queries:
            try:
                job = self._jobs.get(timeout=max(0, until - time.monotonic()))
            except queue.Empty:
                break
            more = len(job.queries) if isinstance(job, _Search) else 0
            if not isinstance(job, _Search) or job.slot is not first.slot or n_queries + more > self._max_queries:
                self._ahead.append(job)
                break
            batch.append(job)
            n_queries += more
        return batch


def _search_all(batch: list[_Search]) -> list[Hits]:
    """The hits of each search of a batch, from one call."""
    index = batch[0].slot.content
    assert index is not None  # it is freed only once nobody can search it any more
    found = index.search(np.concatenate([one.queries for one in batch]), max(one.k for one in batch))
    stops = np.cumsum([len(one.queries) for one in batch])[:-1]
    parts = zip(batch, np.split(found.rows, stops), np.split(found.scores, stops), strict=True)
    return [Hits(rows[:, : one.k].copy(), scores[:, : one.k].copy()) for one, rows, scores in parts]


def _resolve(futures: Sequence[Future[Any]], work: Callable[[], Sequence[object]]) -> None:
    """Set each future to its result of `work`, or all of them to the exception that `work` raised."""
    try:
        results = work()
    except BaseException as error:
        for future in futures:
            future.set_exception(error)
    else:
        for future, result in zip(futures, results, strict=True):
            future.set_result(result)
