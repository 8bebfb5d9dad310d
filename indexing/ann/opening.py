"""Opens or builds an index that can be searched, on a chosen device."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np

from indexing.ann.exact import ExactIndex
from indexing.ann.faiss_index import FaissIndex, SearchParams
from indexing.ann.faiss_kinds import EXACT
from indexing.ann.gpu import DeviceChoice, GpuIndex, choose_device
from indexing.ann.guarded import GuardedIndex
from indexing.ann.protocols import VectorIndex
from indexing.ann.recall import recalls_of
from indexing.bundle.manifest import JsonMap
from retrieval.errors import BadConfig
from retrieval.topk import Vectors

CHECK_QUERIES, CHECK_K, MIN_RECALL = 16, 10, 0.9  # how a copy on a device is checked before it is used


class SearchSpec(NamedTuple):
    """How an index is searched, as a manifest records it."""

    factory: str
    params: SearchParams
    dim: int
    exact_rows: int | None  # see GuardedIndex; None: not measured

    @classmethod
    def of(cls, about: JsonMap) -> SearchSpec:
        """From a manifest's `about`; raises KeyError, TypeError or ValueError where that holds something else."""
        params, dim, filters = about["effort"], about["dim"], about.get("filters")
        rows = filters["exact_rows"] if filters else None  # type: ignore[index, call-overload]
        return cls(str(about["factory"]), SearchParams(**params), int(dim), None if rows is None else int(rows))  # type: ignore[arg-type]


def build_index(
    vectors: Vectors, factory: str, *, params: SearchParams | None = None, seed: int = 0, device: str = "cpu"
) -> VectorIndex:
    """Build an index over vectors float32 [n, dim] in memory.

    Raises what `choose_device`, `FaissIndex.build` and `checked_copy` raise.
    """
    choice = choose_device(device, factory)
    if factory == EXACT and choice.device == "cpu":
        return ExactIndex(vectors)
    return _placed(FaissIndex.build(vectors, factory, params=params, seed=seed), vectors, choice)


def open_index(
    path: Path,
    vectors: Vectors,
    *,
    factory: str,
    params: SearchParams | None = None,
    exact_rows: int | None = None,
    device: str = "auto",
) -> VectorIndex:
    """Open an index over vectors float32 [n, dim] from its FAISS file at `path`; an exact index has no file.

    `exact_rows`: see GuardedIndex; it was measured on the CPU, so that a GPU does not use it. Raises what
    `choose_device`, `FaissIndex.read` and `checked_copy` raise.
    """
    choice = choose_device(device, factory)
    if factory != EXACT:
        return _placed(FaissIndex.read(path, params or SearchParams()), vectors, choice, exact_rows)
    if choice.device == "cpu":
        return ExactIndex(vectors)
    return _placed(FaissIndex.build(vectors, EXACT), vectors, choice)


def _placed(index: FaissIndex, vectors: Vectors, choice: DeviceChoice, exact_rows: int | None = None) -> VectorIndex:
    on_cpu = GuardedIndex(index, vectors, exact_rows=exact_rows)
    if choice.device == "cpu":
        return on_cpu
    return checked_copy(GuardedIndex(GpuIndex.copy(index), vectors), on_cpu, vectors)


def checked_copy(copy: VectorIndex, source: VectorIndex, vectors: Vectors) -> VectorIndex:
    """The copy of an index on a device, once it finds what its source finds; raises BadConfig where it does not.

    It is queried with some of the vectors float32 [n, dim] themselves.
    """
    queries = vectors[np.linspace(0, len(vectors) - 1, CHECK_QUERIES, dtype=np.int64)]
    k = min(CHECK_K, len(vectors))
    found = float(np.mean(recalls_of(copy.search(queries, k), source.search(queries, k))))
    if found < MIN_RECALL:
        raise BadConfig(
            f"{copy.placement}: finds {found:.0%} of what the same index finds on the CPU; "
            "use device=cpu, and check the GPU"
        )
    return copy
