"""Exact top-k by inner product, and the result type that crosses every stage."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from retrieval.errors import BadRequest

Vectors: TypeAlias = NDArray[np.float32]  # [n, dim]
Rows: TypeAlias = NDArray[np.int64]  # positions in the index
Scores: TypeAlias = NDArray[np.float32]
Mask: TypeAlias = NDArray[np.bool_]  # [n_items], True where a row may be returned

TABLE = 16_777_216  # (list, row) pairs that a table of bools may have
ITEM_BLOCK = 32_768  # items scored at once, so that the block and its scores fit in the processor's cache
SPARSE_SHARE = 0.25  # share of allowed rows below which copying them is cheaper than scoring all rows


class Hits(NamedTuple):
    """The k best rows of each query, best first; a short answer is padded with row -1 and score -inf.

    Where the scores are a weighted sum over candidate sources, `parts` holds each source's own scores by its name.
    """

    rows: Rows  # int64   [n_queries, k]  positions in the index, not item ids
    scores: Scores  # float32 [n_queries, k]
    parts: Mapping[str, Scores] = {}  # float32 [n_queries, k] each, 0 for padding

    def select(self, queries: NDArray[np.int64] | Mask) -> Hits:
        """The hits of the queries at given positions or of a mask."""
        parts = {name: part[queries] for name, part in self.parts.items()}
        return Hits(self.rows[queries], self.scores[queries], parts)

    def head(self, k: int) -> Hits:
        """The first k hits of every query."""
        return Hits(self.rows[:, :k], self.scores[:, :k], {name: part[:, :k] for name, part in self.parts.items()})

    @classmethod
    def join(cls, parts: Sequence[Hits]) -> Hits:
        """The hits of several blocks of queries, one after another; all have the same k and the same `parts`."""
        named = {name: np.concatenate([part.parts[name] for part in parts]) for name in parts[0].parts}
        return cls(
            np.concatenate([part.rows for part in parts]), np.concatenate([part.scores for part in parts]), named
        )

    def put(self, queries: NDArray[np.int64] | Mask | slice, hits: Hits) -> None:
        """Overwrites the rows and scores of some queries with those of `hits`, which has the same k."""
        self.rows[queries], self.scores[queries] = hits.rows, hits.scores


class CSR(NamedTuple):
    """One list of rows per query, concatenated: the list of query i is `rows[indptr[i]:indptr[i + 1]]`."""

    indptr: NDArray[np.int64]  # [n_queries + 1]
    rows: Rows  # [indptr[-1]]

    @classmethod
    def from_lists(cls, lists: Sequence[Sequence[int] | NDArray[np.integer]]) -> CSR:
        """From one list of rows per query.

        >>> CSR.from_lists([[3, 1], [], [2]]).indptr.tolist()
        [0, 2, 2, 3]
        """
        sizes = np.fromiter((len(rows) for rows in lists), np.int64, len(lists))
        indptr = np.concatenate(([0], np.cumsum(sizes)))
        flat = [np.asarray(rows, np.int64) for rows in lists if len(rows)]
        return cls(indptr, np.concatenate(flat) if flat else np.empty(0, np.int64))

    @classmethod
    def empty(cls, n: int) -> CSR:
        """An empty list for each of n queries."""
        return cls(np.zeros(n + 1, np.int64), np.empty(0, np.int64))

    @classmethod
    def join(cls, parts: Sequence[CSR]) -> CSR:
        """The lists of several blocks of queries, one block after another.

        >>> CSR.join([CSR.from_lists([[3, 1]]), CSR.from_lists([[], [2]])]).indptr.tolist()
        [0, 2, 2, 3]
        """
        sizes = np.concatenate([np.diff(part.indptr) for part in parts])
        return cls(np.concatenate(([0], np.cumsum(sizes))), np.concatenate([part.rows for part in parts]))

    @classmethod
    def concatenate(cls, parts: Sequence[CSR]) -> CSR:
        """The lists of the same queries from several parts, concatenated query by query.

        >>> CSR.concatenate([CSR.from_lists([[3], [1]]), CSR.from_lists([[], [2]])]).rows.tolist()
        [3, 1, 2]
        """
        filled = [part for part in parts if len(part.rows)]
        if len(filled) < 2:
            return filled[0] if filled else parts[0]
        owners = np.concatenate([part.owners for part in parts])
        return cls.grouped(owners, np.concatenate([part.rows for part in parts]), parts[0].n_lists)

    @classmethod
    def grouped(cls, owner: NDArray[np.integer], row: NDArray[np.integer], n: int) -> CSR:
        """From (query, row) pairs in any order, int [n_pairs] each, of n queries; the order within a query is kept.

        >>> CSR.grouped(np.array([2, 0, 2]), np.array([5, 3, 1]), 3).rows.tolist()
        [3, 5, 1]
        """
        sizes, order = np.bincount(owner, minlength=n), np.argsort(owner, kind="stable")
        return cls(np.concatenate(([0], np.cumsum(sizes))).astype(np.int64), row[order].astype(np.int64))

    def distinct(self) -> CSR:
        """The lists with each row once, ascending.

        >>> CSR.from_lists([[3, 1, 3], [], [2]]).distinct().rows.tolist()
        [1, 3, 2]
        """
        span = int(self.rows.max(initial=0)) + 1
        keys = np.unique(self.owners * span + self.rows)
        return CSR(np.searchsorted(keys, np.arange(self.n_lists + 1) * span).astype(np.int64), keys % span)

    @property
    def n_lists(self) -> int:
        """The number of queries."""
        return len(self.indptr) - 1

    @property
    def owners(self) -> NDArray[np.int64]:
        """The query that each of `rows` belongs to, int64 [indptr[-1]]."""
        return np.repeat(np.arange(self.n_lists), np.diff(self.indptr))

    def select(self, queries: NDArray[np.int64] | Mask) -> CSR:
        """The lists of the queries at given positions or of a mask."""
        index = np.arange(self.n_lists)[queries]
        sizes = np.diff(self.indptr)[index]
        indptr = np.concatenate(([0], np.cumsum(sizes)))
        source = np.repeat(self.indptr[index] - indptr[:-1], sizes) + np.arange(indptr[-1])
        return CSR(indptr, self.rows[source])

    def without(self, other: CSR) -> CSR:
        """Each list without the rows that are in the other's list of the same query.

        >>> CSR.from_lists([[3, 1], [2]]).without(CSR.from_lists([[1, 5], []])).rows.tolist()
        [3, 2]
        """
        return self.where(~self.listed_in(other))

    def listed_in(self, other: CSR) -> Mask:
        """Whether each row is in the other's list of the same query, bool [indptr[-1]]."""
        span = int(max(self.rows.max(initial=0), other.rows.max(initial=0))) + 1
        keys, others = self.owners * span + self.rows, other.owners * span + other.rows
        return np.isin(keys, others, kind="table" if self.n_lists * span <= TABLE else None)

    def where(self, kept: Mask) -> CSR:
        """The lists with the rows of the mask `kept`, bool [indptr[-1]], alone.

        >>> CSR.from_lists([[3, 1], [2]]).where(np.array([False, True, False])).indptr.tolist()
        [0, 1, 1]
        """
        return CSR(np.concatenate(([0], np.cumsum(kept)))[self.indptr], self.rows[kept])


def exact_topk(
    queries: Vectors,
    items: Vectors,
    k: int,
    *,
    allowed: Mask | None = None,
    n_allowed: int | None = None,
    exclude: CSR | None = None,
    block: int = 8_388_608,
) -> Hits:
    """The k items of largest inner product with each query, exactly.

    `queries` float32 [n_queries, dim], `items` float32 [n_items, dim], which may be a memory map. `allowed` filters
    rows for all queries, `exclude` lists rows to leave out of each; `n_allowed` is the number of allowed rows, counted
    if not given. Ties go to the lower row, and NaN scores are never returned. `block` limits the scores in memory
    (float32, 4 bytes each). Raises BadRequest where k is below 1.
    """
    if k < 1:
        raise BadRequest(f"k is {k}; ask for at least 1 result")
    if allowed is not None:
        n_allowed = int(np.count_nonzero(allowed)) if n_allowed is None else n_allowed
        if n_allowed < SPARSE_SHARE * len(allowed):
            return _topk_of_few(queries, items, k, np.flatnonzero(allowed), exclude, block)
    hits = Hits(np.full((len(queries), k), -1, np.int64), np.full((len(queries), k), -np.inf, np.float32))
    size = max(1, block // max(1, min(len(items), ITEM_BLOCK)))
    for start in range(0, len(queries), size):
        part = slice(start, min(start + size, len(queries)))
        own = None if exclude is None else exclude.select(np.arange(part.start, part.stop))
        for rows, scores in _block_scores(queries[part], items, allowed, own):
            found = best_columns(scores, k)
            merged = merge_hits(hits.select(np.arange(part.start, part.stop)), Hits(rows[found.rows], found.scores), k)
            hits.put(part, merged)
    return hits


def merge_hits(left: Hits, right: Hits, k: int) -> Hits:
    """The k best of two hits for the same queries, ties by row; narrower where both together hold fewer than k."""
    rows = np.concatenate((left.rows, right.rows), axis=1)
    scores = np.concatenate((left.scores, right.scores), axis=1)
    order = np.lexsort((rows, -scores), axis=1)[:, :k]
    rows, scores = np.take_along_axis(rows, order, 1), np.take_along_axis(scores, order, 1)
    rows[scores == -np.inf] = -1
    return Hits(rows, scores)


def best_columns(scores: Scores, k: int) -> Hits:
    """The k best columns of each row of `scores` [n, m], best first, ties by column; min(k, m) wide.

    Columns of score -inf or NaN can fill the tail of a row; their score is -inf there, so that the caller can pad them.
    """
    k = min(k, scores.shape[1])
    scores = np.where(np.isnan(scores), -np.inf, scores) if np.isnan(scores.max(initial=-np.inf)) else scores
    if k == scores.shape[1]:
        columns = np.broadcast_to(np.arange(k), scores.shape)
    else:
        columns = np.argpartition(scores, -k, axis=1)[:, -k:]
        worst = np.take_along_axis(scores, columns, 1).min(axis=1)
        tied = np.flatnonzero((np.count_nonzero(scores >= worst[:, None], axis=1) > k) & (worst > -np.inf))
        for line in tied:  # argpartition picks any columns of a tie at the edge; take the lowest ones
            candidates = np.flatnonzero(scores[line] >= worst[line])
            columns[line] = candidates[np.argsort(-scores[line, candidates], kind="stable")[:k]]
    found = np.take_along_axis(scores, columns, 1)
    order = np.lexsort((columns, -found), axis=1)
    return Hits(np.take_along_axis(columns, order, 1), np.take_along_axis(found, order, 1))


def _block_scores(
    queries: Vectors, items: Vectors, allowed: Mask | None, exclude: CSR | None
) -> Iterator[tuple[Rows, Scores]]:
    for start in range(0, len(items), ITEM_BLOCK):
        stop = min(start + ITEM_BLOCK, len(items))
        scores = queries @ items[start:stop].T
        if allowed is not None:
            scores[:, ~allowed[start:stop]] = -np.inf
        if exclude is not None:
            here = (exclude.rows >= start) & (exclude.rows < stop)
            scores[exclude.owners[here], exclude.rows[here] - start] = -np.inf
        yield np.arange(start, stop), scores


def _topk_of_few(queries: Vectors, items: Vectors, k: int, few: Rows, exclude: CSR | None, block: int) -> Hits:
    if exclude is not None:
        place = np.searchsorted(few, exclude.rows)
        kept = np.take(np.append(few, -1), place) == exclude.rows
        indptr = np.concatenate(([0], np.cumsum(kept)))[exclude.indptr]
        exclude = CSR(indptr, place[kept])
    hits = exact_topk(queries, items[few], k, exclude=exclude, block=block)
    return Hits(np.append(few, -1)[hits.rows], hits.scores)


def ranges(begin: NDArray[np.int64], end: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """All (line, number) with begin[line] <= number < end[line], int64 each, in order."""
    sizes = np.maximum(end - begin, 0)
    line = np.repeat(np.arange(len(sizes)), sizes)
    return line, np.arange(len(line)) - np.repeat(np.cumsum(sizes) - sizes - begin, sizes)
