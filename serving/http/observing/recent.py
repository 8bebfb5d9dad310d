"""The last minute of a server and its last requests, of all its workers, in memory that they share.

Each worker alone writes its own part, and any of them reads all. Latencies are counted in buckets that grow by a
twentieth each, so that quantiles are right within that.
"""

from __future__ import annotations

import json
import math
import mmap
import struct
import time
import zlib
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from serving.http.observing.seen import Seen

WINDOW = 60  # seconds
SLOTS = WINDOW + 4  # so that what is read is not written anew
SHORTEST_MS, GROWTH, BUCKETS = 0.05, 1.05, 320
REQUESTS, ANSWERS, DEGRADED, EMPTY, FIRST_BUCKET = 0, 1, 2, 3, 4
LAST = 50  # requests
RECORD = 2_048  # bytes
HEAD = struct.Struct("<II")  # a record's length and checksum
RESOURCES = "/v1/"
OWN = "/v1/now"  # what the page asks for all the time


class Recent:
    """Made by the process that forks the workers. `clock` gives seconds since 1970."""

    def __init__(self, workers: int = 1, clock: Callable[[], float] = time.time) -> None:
        self._clock, self._started, self._workers = clock, clock(), workers
        shape = (workers, SLOTS, FIRST_BUCKET + BUCKETS)
        self._counts: NDArray[np.uint32] = _shared(shape, np.uint32)
        self._seconds: NDArray[np.int64] = _shared(shape[:2], np.int64)  # which second a slot is of
        self._records = mmap.mmap(-1, workers * LAST * RECORD)

    def of_worker(self, worker: int) -> RecentOfWorker:
        """What tells of the requests of one worker, counted from 0."""
        return RecentOfWorker(self._counts[worker], self._seconds[worker], self._records, worker * LAST * RECORD)

    def now(self) -> dict[str, Any]:
        """Rates, quantiles and shares of the last minute, or since the start, and the last requests, newest first."""
        now = self._clock()
        window = min(float(WINDOW), max(1.0, now - self._started))
        counts = self._counts[self._seconds > int(now) - WINDOW].sum(0, dtype=np.int64)
        answers = int(counts[ANSWERS])
        return {
            "window_s": round(window, 3),
            "requests_per_s": round(int(counts[REQUESTS]) / window, 3),
            "p50_ms": quantile(counts[FIRST_BUCKET:], 0.5),
            "p99_ms": quantile(counts[FIRST_BUCKET:], 0.99),
            "degraded": round(int(counts[DEGRADED]) / answers, 4) if answers else 0.0,
            "empty": round(int(counts[EMPTY]) / answers, 4) if answers else 0.0,
            "recent": sorted(self._read(), key=lambda told: -told["at"])[:LAST],
        }

    def _read(self) -> Iterator[dict[str, Any]]:
        for start in range(0, len(self._records), RECORD):
            length, checksum = HEAD.unpack_from(self._records, start)
            told = self._records[start + HEAD.size : start + HEAD.size + length]
            if length and zlib.crc32(told) == checksum:  # it may be written meanwhile
                yield json.loads(told)


class RecentOfWorker:
    """An observer that writes one worker's part; see `Recent`."""

    def __init__(self, counts: NDArray[np.uint32], seconds: NDArray[np.int64], records: mmap.mmap, start: int) -> None:
        self._counts, self._seconds, self._records, self._start, self._next = counts, seconds, records, start, 0

    def ended(self, seen: Seen) -> None:
        """See `serving.http.observing.seen.Observer`."""
        if not seen.route.startswith(RESOURCES) or seen.route.startswith(OWN):
            return
        self._count(seen)
        self._keep(seen)

    def close(self) -> None:
        """See `serving.http.observing.seen.Observer`."""

    def _count(self, seen: Seen) -> None:
        second = int(seen.ended)
        slot = second % SLOTS
        if self._seconds[slot] != second:
            self._counts[slot] = 0
            self._seconds[slot] = second
        counts = self._counts[slot]
        counts[REQUESTS] += 1
        counts[FIRST_BUCKET + bucket(seen.seconds * 1_000)] += 1
        if seen.answers:
            counts[ANSWERS] += len(seen.answers)
            counts[DEGRADED] += sum(bool(one.answer.degraded) for one in seen.answers)
            counts[EMPTY] += sum(not one.answer.items for one in seen.answers)

    def _keep(self, seen: Seen) -> None:
        told: dict[str, Any] = {
            "at": round(seen.ended, 3), "task": seen.task, "status": seen.status, "ms": round(seen.seconds * 1_000, 3),
            "items": seen.items, "degraded": seen.degraded, "reranked": seen.reranked, "release": seen.release,
            "timings_ms": seen.timings_ms,
        }  # fmt: skip
        data = json.dumps(told).encode()
        if len(data) > RECORD - HEAD.size:
            data = json.dumps({**told, "degraded": told["degraded"][:3], "timings_ms": {}}).encode()
        start = self._start + self._next * RECORD
        self._next = (self._next + 1) % LAST
        HEAD.pack_into(self._records, start, 0, 0)
        self._records[start + HEAD.size : start + HEAD.size + len(data)] = data
        HEAD.pack_into(self._records, start, len(data), zlib.crc32(data))


def bucket(ms: float) -> int:
    """The bucket of a latency.

    >>> bucket(0.0), bucket(0.06), bucket(1e9)
    (0, 3, 319)
    """
    return min(BUCKETS - 1, max(0, math.floor(math.log(max(ms, SHORTEST_MS) / SHORTEST_MS, GROWTH))))


def quantile(counts: NDArray[np.int64], share: float) -> float:
    """The latency in milliseconds that a share of requests did not exceed, of counts int64 [BUCKETS]; 0 of none."""
    total = int(counts.sum())
    if not total:
        return 0.0
    at = int(np.searchsorted(np.cumsum(counts), math.ceil(total * share)))
    middle: float = SHORTEST_MS * GROWTH ** (at + 0.5)
    return round(middle, 3)


def _shared(shape: tuple[int, ...], kind: type[np.generic]) -> NDArray[Any]:
    size = math.prod(shape) * np.dtype(kind).itemsize
    return np.ndarray(shape, kind, mmap.mmap(-1, size))
