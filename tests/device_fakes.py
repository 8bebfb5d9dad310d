"""A FAISS index on the CPU that behaves as one on a GPU does, and tells when it is used as those must not be."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np

from indexing.ann.gpu import MAX_K
from retrieval.topk import Vectors, exact_topk


class LikeGpu:
    """Exact search of vectors that takes no selector, at most MAX_K hits, and calls of the thread that made it alone.

    `calls` are the numbers of queries of each search. `log` hears "loaded", "searched" and "freed", each with the name.
    """

    def __init__(self, vectors: Vectors, log: list[str] | None = None, name: str = "") -> None:
        self.vectors, self.calls, self.log, self.name = vectors, list[int](), [] if log is None else log, name
        self.owner = threading.get_ident()
        self.busy = threading.Lock()
        self.log.append(f"loaded {name}")

    def search(self, queries: Vectors, k: int, params: Any = None) -> tuple[np.ndarray, np.ndarray]:
        """FAISS's own order: scores, then rows."""
        assert threading.get_ident() == self.owner, "searched by a thread that does not own the device"
        assert self.busy.acquire(blocking=False), "searched by two threads at once"
        try:
            assert k <= MAX_K
            self.calls.append(len(queries))
            self.log.append(f"searched {self.name}")
            hits = exact_topk(queries, self.vectors, k)
            return hits.scores, hits.rows
        finally:
            self.busy.release()

    def __del__(self) -> None:
        by_owner = threading.get_ident() == self.owner
        self.log.append(f"freed {self.name}" if by_owner else f"freed {self.name} by another thread")
