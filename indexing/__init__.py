"""Vector indexes, what is stored per item, and versioned releases on disk."""

from __future__ import annotations

from typing import TYPE_CHECKING

from retrieval.lazy import exports

if TYPE_CHECKING:
    from indexing.columns import ItemColumn as ItemColumn
    from indexing.exact import ExactIndex as ExactIndex
    from indexing.faiss_index import Effort as Effort
    from indexing.faiss_index import FaissIndex as FaissIndex
    from indexing.index import VectorIndex as VectorIndex
    from indexing.manifest import Manifest as Manifest
    from indexing.opening import build_index as build_index
    from indexing.opening import open_index as open_index
    from indexing.rebuild import build_version as build_version
    from indexing.releases import Release as Release
    from indexing.store import Bundle as Bundle
    from indexing.tune import Tuner as Tuner
    from indexing.version import IndexVersion as IndexVersion

_MODULES = {
    "indexing.columns": "ItemColumn",
    "indexing.exact": "ExactIndex",
    "indexing.faiss_index": "Effort FaissIndex",
    "indexing.index": "VectorIndex",
    "indexing.manifest": "Manifest",
    "indexing.opening": "build_index open_index",
    "indexing.rebuild": "build_version",
    "indexing.releases": "Release",
    "indexing.store": "Bundle",
    "indexing.tune": "Tuner",
    "indexing.version": "IndexVersion",
}
__all__ = [
    "Bundle",
    "Effort",
    "ExactIndex",
    "FaissIndex",
    "IndexVersion",
    "ItemColumn",
    "Manifest",
    "Release",
    "Tuner",
    "VectorIndex",
    "build_index",
    "build_version",
    "open_index",
]
__getattr__, __dir__ = exports(__name__, _MODULES)
