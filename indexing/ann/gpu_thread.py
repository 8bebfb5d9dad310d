"""One thread that owns a device: whatever touches the device is done there, one thing after the other.

For libraries whose device objects are not safe to use from several threads, nor to be freed by one thread while another
loads. Searches that wait at the same time become one call.
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

from retrieval.errors import BadConfig
from retrieval.topk import Hits, Vectors

MAX_QUERIES = 1_024  # of one call
MAX_WAIT = 0.0005  # seconds that the first search of a call waits for others at most

T = TypeVar("T")
S = TypeVar("S", bound="Searched")


class Searched(Protocol):
    """An object on the device; `search` is called by the owning thread alone."""

    def search(self, queries: Vectors, k: int) -> Hits:
        """The k best rows of each query float32 [n, dim]."""
        ...


@dataclass
class Slot(Generic[T]):
    """A place for what was made on the device, emptied when that is freed."""

    content: T | None = None


@dataclass(frozen=True)
class _Step:
    """Something to do on the device that is no search."""

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
    """Takes work for the device from any thread, and does it in its own in the order in which it came.

    Searches of one object that follow each other are one call of at most `max_queries` queries. Those that wait already
    always are; for further ones a call waits `max_wait` seconds, if the call before it was one of several searches.
    """

    def __init__(self, *, max_queries: int = MAX_QUERIES, max_wait: float = MAX_WAIT) -> None:
        self._max_queries = max_queries
        self._max_wait = max_wait
        self._jobs: queue.SimpleQueue[_Job] = queue.SimpleQueue()  # freeing may interrupt another put, which it allows
        self._ahead: deque[_Job] = deque()  # of the thread alone: taken from the queue and not yet done
        self._was_shared = False
        self._process = os.getpid()
        self._thread = threading.Thread(target=self._work, name="device", daemon=True)
        self._thread.start()

    def make(self, make: Callable[[], T]) -> Slot[T]:
        """Make something on the device; waits for it, and raises what its making raised."""
        slot = Slot[T]()

        def fill() -> None:
            slot.content = make()

        self._put(step := _Step(fill))
        step.done.result()
        return slot

    def free(self, slot: Slot[T]) -> None:
        """Free what is in a slot, after whatever was asked of it before; waits for nothing, whoever calls."""

        def empty() -> None:
            slot.content = None

        if os.getpid() == self._process:
            self._jobs.put(_Step(empty))

    def search(self, slot: Slot[S], queries: Vectors, k: int) -> Hits:
        """The k best rows of each query, by what is in a slot; waits for them, and raises what the search raised."""
        self._put(search := _Search(slot, np.ascontiguousarray(queries, np.float32), k))
        return search.done.result()

    def close(self) -> None:
        """End the thread after what it has been given."""
        self._jobs.put(None)
        self._thread.join()

    def _put(self, job: _Job) -> None:
        if os.getpid() != self._process:
            raise BadConfig("a forked process cannot use the GPU; start it by spawn, or open the engine in it alone")
        self._jobs.put(job)

    def _work(self) -> None:
        while self._do(self._ahead.popleft() if self._ahead else self._jobs.get()):
            pass

    def _do(self, job: _Job) -> bool:
        """Do a job, with the searches that join it; False for the last. Nothing of it is held afterwards."""
        if isinstance(job, _Step):
            _settle([job.done], lambda: [job.step()])
        elif job is not None:
            batch = self._joined(job)
            self._was_shared = len(batch) > 1
            _settle([search.done for search in batch], lambda: _search_all(batch))
        return job is not None

    def _joined(self, first: _Search) -> list[_Search]:
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
    """The hits of each search, from one call."""
    searched = batch[0].slot.content
    assert searched is not None  # it is freed when nobody is left who could ask
    found = searched.search(np.concatenate([one.queries for one in batch]), max(one.k for one in batch))
    stops = np.cumsum([len(one.queries) for one in batch])[:-1]
    parts = zip(batch, np.split(found.rows, stops), np.split(found.scores, stops), strict=True)
    return [Hits(rows[:, : one.k].copy(), scores[:, : one.k].copy()) for one, rows, scores in parts]


def _settle(futures: Sequence[Future[Any]], work: Callable[[], Sequence[object]]) -> None:
    """Give each future its result of the work, or what the work raised to all of them."""
    try:
        results = work()
    except BaseException as error:
        for future in futures:
            future.set_exception(error)
    else:
        for future, result in zip(futures, results, strict=True):
            future.set_result(result)
