"""Exact search: every vector is scored. The right index for a catalogue that one pass over memory can cover."""

from __future__ import annotations

from retrieval.topk import CSR, Hits, Mask, Vectors, exact_topk


class ExactIndex:
    """A VectorIndex over vectors float32 [size, dim], which may be a memory map: nothing is copied or built."""

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
