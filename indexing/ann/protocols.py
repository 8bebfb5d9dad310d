"""What every index of vectors offers. Scores are inner products."""

from __future__ import annotations

from typing import Protocol

from retrieval.topk import CSR, Hits, Mask, Vectors


class Backend(Protocol):
    """A bare index with its limits; `GuardedIndex` makes a `VectorIndex` of it.

    `is_exact`: hits are those of an exact search. `can_filter`: `allowed` is obeyed; where False, it must be None.
    `max_k`: the most hits that one search may ask for. `surplus`: the multiple of k hits to fetch, so that the k best
    are among them once they are scored exactly; above 1 for strong compression, see `hits_wanted`. `placement`: the
    device and library it runs on, for people to read.
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
        """Up to k rows of each query float32 [n, dim], best first; padded with row -1 and score -inf."""
        ...


class VectorIndex(Protocol):
    """An index that never returns a row that is not allowed, nor fewer than k rows where k are allowed.

    `can_filter` says whether the index itself skips rows while it searches; where it does not, more hits are fetched
    and filtered afterwards, which costs time but no hits.
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

        `allowed` bool [size] holds for all queries; `exclude` names rows to leave out of each query's own answer.
        Places for which no row is left are row -1 with score -inf.
        """
        ...
