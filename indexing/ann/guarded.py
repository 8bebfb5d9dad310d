"""Makes the answers of a bare index complete: nothing disallowed, never fewer hits than there are, exact scores."""

from __future__ import annotations

import math

import numpy as np

from indexing.ann.protocols import Backend
from retrieval.topk import CSR, Hits, Mask, Rows, Scores, Vectors, exact_topk

EXACT_ROWS, EXACT_SHARE = 32_768, 0.05  # allowed rows that are searched exactly, unless the crossover was measured
FILTER_SURPLUS = 1.5  # where the index cannot filter: hits fetched, as a multiple of those expected to be needed
MIN_REFINED = 100  # hits fetched from coarse codes at least, whose first few are unreliable
REFINED_UNDER_FILTER = 2.0  # times as many under a filter: coarse codes tell the remaining items apart less well
RESCORE_FLOATS = 16_777_216  # floats gathered at a time to score hits again (64 MiB)


class GuardedIndex:
    """A VectorIndex over a Backend and the exact vectors float32 [size, dim] that it was built from.

    Hits are scored again with the exact vectors, so that scores do not depend on the backend's compression. A filter
    that allows at most `exact_rows` rows is answered by exact search over them, which is quicker there; the number
    comes from `indexing.tuning.filter_crossover`, and None takes a cautious default. Queries that get fewer hits than
    there are rows to find are searched again exactly. Safe to search from many threads where the backend is.
    """

    def __init__(self, backend: Backend, vectors: Vectors, *, exact_rows: int | None = None) -> None:
        if (backend.size, backend.dim) != vectors.shape:
            raise ValueError(f"the index holds [{backend.size}, {backend.dim}], the vectors are {vectors.shape}")
        self._backend = backend
        self._vectors = vectors
        self._exact_rows = max(EXACT_ROWS, round(EXACT_SHARE * backend.size)) if exact_rows is None else exact_rows

    @property
    def is_exact(self) -> bool:
        """Whether the backend is exact."""
        return self._backend.is_exact

    @property
    def can_filter(self) -> bool:
        """Whether the backend filters by itself."""
        return self._backend.can_filter

    @property
    def size(self) -> int:
        """The number of rows."""
        return self._backend.size

    @property
    def dim(self) -> int:
        """The number of dimensions."""
        return self._backend.dim

    @property
    def exact_rows(self) -> int:
        """The most allowed rows that are searched exactly."""
        return self._exact_rows

    @property
    def placement(self) -> str:
        """Where the backend runs, and why."""
        return self._backend.placement

    def search(self, queries: Vectors, k: int, *, allowed: Mask | None = None, exclude: CSR | None = None) -> Hits:
        """See VectorIndex."""
        n_allowed = len(self._vectors) if allowed is None else int(np.count_nonzero(allowed))
        if k < 1 or (n_allowed <= self._exact_rows and n_allowed < len(self._vectors)):
            return exact_topk(queries, self._vectors, k, allowed=allowed, n_allowed=n_allowed, exclude=exclude)
        allowed = None if n_allowed == self.size else allowed
        longest = 0 if exclude is None else int(np.diff(exclude.indptr).max(initial=0))
        fetch = self._fetch(k + longest, n_allowed)
        if fetch > self._backend.max_k:
            return exact_topk(queries, self._vectors, k, allowed=allowed, n_allowed=n_allowed, exclude=exclude)
        found = self._backend.search(queries, fetch, allowed=allowed if self.can_filter else None)
        rows = _permitted(found.rows, allowed, exclude)
        hits = _best(rows, rescore(queries, self._vectors, rows), k)
        return self._complete(hits, queries, k, n_allowed, allowed, exclude)

    def _fetch(self, k: int, n_allowed: int) -> int:
        """How many hits to ask the backend for, so that k allowed ones should be among them."""
        k = hits_wanted(self._backend, k, filtered=n_allowed < self.size)
        if n_allowed == self.size or self.can_filter:
            return min(k, n_allowed)
        return min(math.ceil(FILTER_SURPLUS * k * self.size / max(n_allowed, 1)), self.size)

    def _complete(
        self, hits: Hits, queries: Vectors, k: int, n_allowed: int, allowed: Mask | None, exclude: CSR | None
    ) -> Hits:
        """The hits, where queries that got fewer rows than there are were searched again exactly."""
        short = np.count_nonzero(hits.rows >= 0, axis=1) < min(k, n_allowed)
        if short.any():
            own = None if exclude is None else exclude.select(short)
            hits.put(short, exact_topk(queries[short], self._vectors, k, allowed=allowed, exclude=own))
        return hits


def hits_wanted(backend: Backend, k: int, *, filtered: bool = False) -> int:
    """How many hits to fetch from a backend, so that the k best are among them once they are scored exactly."""
    surplus = backend.surplus
    if surplus <= 1:
        return k
    return math.ceil(max(k, MIN_REFINED) * surplus * (REFINED_UNDER_FILTER if filtered else 1))


def rescore(queries: Vectors, vectors: Vectors, rows: Rows) -> Scores:
    """The inner product of each query with its rows, float32 [n_queries, k]; -inf where the row is -1."""
    scores = np.empty(rows.shape, np.float32)
    size = max(1, RESCORE_FLOATS // max(1, rows.shape[1] * vectors.shape[1]))
    for start in range(0, len(rows), size):
        part = slice(start, start + size)
        scores[part] = np.matmul(vectors[rows[part]], queries[part, :, None])[..., 0]
    scores[rows < 0] = -np.inf
    return scores


def _permitted(rows: Rows, allowed: Mask | None, exclude: CSR | None) -> Rows:
    """Rows [n_queries, k] with -1 in place of those that are not allowed or are excluded."""
    kept = rows >= 0
    if allowed is not None:
        kept &= allowed[rows]
    if exclude is not None and len(exclude.rows):
        width = max(int(rows.max(initial=0)), int(exclude.rows.max())) + 1
        pairs = np.arange(len(rows))[:, None] * width + rows
        kept &= ~np.isin(pairs, exclude.owners * width + exclude.rows)
    return np.where(kept, rows, -1)


def _best(rows: Rows, scores: Scores, k: int) -> Hits:
    """The k best hits of each query, ties by row, padded to k."""
    if (missing := k - rows.shape[1]) > 0:
        rows = np.pad(rows, ((0, 0), (0, missing)), constant_values=-1)
        scores = np.pad(scores, ((0, 0), (0, missing)), constant_values=-np.inf)
    order = np.lexsort((rows, -scores), axis=1)[:, :k]
    return Hits(np.take_along_axis(rows, order, 1), np.take_along_axis(scores, order, 1))
