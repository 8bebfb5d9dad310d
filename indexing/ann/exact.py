"""Exact search: every vector is scored, which is quick enough for small catalogues."""

from __future__ import annotations

from retrieval.topk import CSR, Hits, Mask, Vectors, exact_topk


class ExactIndex:
    """A VectorIndex over vectors float32 [size, dim], which may be memory-mapped; nothing is built or copied."""

    is_exact = True
    can_filter = True
    placement = "cpu: exact search"

    def __init__(self, vectors: Vectors) -> None:
        self._vectors = vectors

    @property
    def size(self) -> int:
        """The number of rows."""
        return int(self._vectors.shape[0])

    @property
    def dim(self) -> int:
        """The number of dimensions."""
        return int(self._vectors.shape[1])

    def search(self, queries: Vectors, k: int, *, allowed: Mask | None = None, exclude: CSR | None = None) -> Hits:
        """See VectorIndex."""
        return exact_topk(queries, self._vectors, k, allowed=allowed, exclude=exclude)
