"""Small blocks of requests for tests of candidate sources."""

from __future__ import annotations

import numpy as np
from scipy.sparse import csr_array

from retrieval.data.time_units import DAY
from retrieval.sources.behaviour import CoOccurrence
from retrieval.sources.protocols import RequestBatch
from retrieval.sources.recent import RecentCoOccurrence
from retrieval.topk import CSR

N = 6  # items


def asked(history: list[list[int]], day: list[int] | None = None, texts: list[str] | None = None) -> RequestBatch:
    lists = CSR.from_lists(history)
    n = len(history)
    return RequestBatch(lists, lists, lists, lists, np.array(day or [0] * n, np.int64), texts or [""] * n, lists)


def every_pair(n: int) -> CSR:
    return CSR.from_lists([list(range(N))] * n)


def co_occurrence() -> CoOccurrence:
    """Items 0, 1 and 3 with a few neighbours each."""
    similar = np.zeros((N, N), np.float32)
    similar[0, 1], similar[0, 2], similar[1, 2], similar[3, 2] = 0.5, 0.25, 0.5, 1.0
    return CoOccurrence(csr_array(similar))


def recent_together(n: int = 60, seed: int = 0) -> RecentCoOccurrence:
    rng = np.random.default_rng(seed)
    time, user, item = rng.integers(0, 20 * DAY, n), rng.integers(0, 6, n), rng.integers(0, N, n)
    return RecentCoOccurrence.of(time, user, item, N, days=5, known={})
