"""hnswlib and usearch as vector indexes, built as their documentation shows; used where they are installed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from importlib import import_module
from typing import Any

import numpy as np

from retrieval.errors import MissingDependency
from retrieval.topk import Hits, Mask, Vectors

LINKS, BUILD_EF = 32, 200  # of a graph; as many links as FAISS's HNSW32
SearchGraph = Callable[[Vectors, int, int], tuple[Any, Any]]  # queries, k and ef to rows and inner products


@dataclass(frozen=True)
class GraphIndex:
    """A graph of another library. It does not filter: `GuardedIndex` fetches more hits instead."""

    search_graph: SearchGraph
    size: int
    dim: int
    placement: str
    ef: int = 64
    bytes: int | None = None  # in memory, where the library reports them
    is_exact: bool = False
    can_filter: bool = False
    surplus: float = 1.0

    @property
    def max_k(self) -> int:
        """All rows."""
        return self.size

    def with_ef(self, ef: int) -> GraphIndex:
        """The same graph with another search effort."""
        return replace(self, ef=ef)

    def search(self, queries: Vectors, k: int, *, allowed: Mask | None = None) -> Hits:
        """See `VectorIndex`. Raises ValueError where `allowed` is given."""
        if allowed is not None:
            raise ValueError(f"{self.placement} cannot filter: pass allowed=None and filter the hits")
        rows, scores = self.search_graph(queries, k, max(self.ef, k))
        return Hits(np.asarray(rows).astype(np.int64), np.asarray(scores, np.float32))


def build_hnswlib(vectors: Vectors) -> GraphIndex:
    """An hnswlib graph of inner products."""
    hnswlib = _imported("hnswlib")
    index = hnswlib.Index(space="ip", dim=int(vectors.shape[1]))
    index.init_index(max_elements=len(vectors), ef_construction=BUILD_EF, M=LINKS // 2)
    index.add_items(np.asarray(vectors), np.arange(len(vectors)))

    def ask(queries: Vectors, k: int, ef: int) -> tuple[Any, Any]:
        index.set_ef(ef)
        rows, distances = index.knn_query(queries, k=k)
        return rows, 1 - distances

    return GraphIndex(ask, len(vectors), int(vectors.shape[1]), "cpu: hnswlib", bytes=index.index_file_size())


def build_usearch(vectors: Vectors) -> GraphIndex:
    """A usearch graph of inner products, float32."""
    library = _imported("usearch.index")
    index = library.Index(
        ndim=int(vectors.shape[1]), metric="ip", dtype="f32", connectivity=LINKS // 2, expansion_add=BUILD_EF
    )
    index.add(np.arange(len(vectors)), np.asarray(vectors))

    def ask(queries: Vectors, k: int, ef: int) -> tuple[Any, Any]:
        index.expansion_search = ef
        found = index.search(queries, k)
        rows, distances = np.atleast_2d(found.keys), np.atleast_2d(found.distances)
        return rows, 1 - distances

    return GraphIndex(ask, len(vectors), int(vectors.shape[1]), "cpu: usearch", bytes=index.memory_usage)


def _imported(name: str) -> Any:
    try:
        return import_module(name)
    except ImportError as error:
        package = name.partition(".")[0]
        raise MissingDependency(f"{package} is not installed; to measure it: pip install {package}") from error


OTHERS: Mapping[str, Callable[[Vectors], GraphIndex]] = {"hnswlib": build_hnswlib, "usearch": build_usearch}
