"""What every index of vectors can be asked. Scores are inner products."""

from __future__ import annotations

from typing import Protocol

from retrieval.topk import CSR, Hits, Mask, Vectors


class Backend(Protocol):
    """A bare index that tells the truth about itself; `GuardedIndex` makes a `VectorIndex` of it.

    `is_exact`: the hits are those of an exact search. `can_filter`: `allowed` is obeyed; it must be None elsewhere.
    `max_k`: the most hits one search can ask for. `surplus`: how many times k hits to fetch, so that the k best are
    among them once they are scored exactly; above 1 for an index that compresses hard, see `hits_wanted`. `placement`:
    where it runs.
    """

    @property
    def is_exact(self) -> bool: ...
    @property
    def can_filter(self) -> bool: ...
    @property
    def size(self) -> int: ...
    @property
    def dim(self) -> int: ...
    @property
    def max_k(self) -> int: ...
    @property
    def surplus(self) -> float: ...
    @property
    def placement(self) -> str: ...

    def search(self, queries: Vectors, k: int, *, allowed: Mask | None = None) -> Hits:
        """Up to k rows of each query, best first; short answers are padded with row -1 and score -inf."""
        ...


class VectorIndex(Protocol):
    """An index that never answers a row it may not, nor fewer than k rows where k may be answered.

    `can_filter` says whether the index itself leaves rows out while it searches; where it does not, hits are fetched in
    surplus and filtered afterwards, which costs time and never an answer.
    """

    @property
    def is_exact(self) -> bool: ...
    @property
    def can_filter(self) -> bool: ...
    @property
    def size(self) -> int: ...
    @property
    def dim(self) -> int: ...
    @property
    def placement(self) -> str: ...

    def search(self, queries: Vectors, k: int, *, allowed: Mask | None = None, exclude: CSR | None = None) -> Hits:
        """The k best rows of each query float32 [n, dim], best first, ties by row; scores are exact inner products.

        `allowed` [size] leaves rows out for all queries, `exclude` for each query its own list (what a shopper has
        already). Rows beyond those that may be answered are -1, their scores -inf.
        """
        ...
