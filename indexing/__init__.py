"""Vector indexes, data stored per item, and versioned releases on disk."""

from __future__ import annotations

from typing import TYPE_CHECKING

from retrieval.lazy import exports

if TYPE_CHECKING:
    from indexing.ann.exact import ExactIndex as ExactIndex
    from indexing.ann.faiss_index import FaissIndex as FaissIndex
    from indexing.ann.faiss_index import SearchParams as SearchParams
    from indexing.ann.opening import build_index as build_index
    from indexing.ann.opening import open_index as open_index
    from indexing.ann.protocols import VectorIndex as VectorIndex
    from indexing.bundle.bundle import Bundle as Bundle
    from indexing.bundle.manifest import Manifest as Manifest
    from indexing.bundle.releases import Release as Release
    from indexing.tuning.tuner import Tuner as Tuner
    from indexing.version.build import build_version as build_version
    from indexing.version.index_version import IndexVersion as IndexVersion
    from indexing.version.item_columns import ItemColumn as ItemColumn

    __version__: str

_MODULES = {
    "indexing.version.item_columns": "ItemColumn",
    "indexing.ann.exact": "ExactIndex",
    "indexing.ann.faiss_index": "FaissIndex SearchParams",
    "indexing.ann.protocols": "VectorIndex",
    "indexing.bundle.manifest": "Manifest",
    "indexing.ann.opening": "build_index open_index",
    "indexing.version.build": "build_version",
    "indexing.bundle.releases": "Release",
    "indexing.bundle.bundle": "Bundle",
    "indexing.tuning.tuner": "Tuner",
    "indexing.version.index_version": "IndexVersion",
}
__all__ = [
    "Bundle",
    "ExactIndex",
    "FaissIndex",
    "IndexVersion",
    "ItemColumn",
    "Manifest",
    "Release",
    "SearchParams",
    "Tuner",
    "VectorIndex",
    "build_index",
    "build_version",
    "open_index",
]
__getattr__, __dir__ = exports(__name__, _MODULES)
