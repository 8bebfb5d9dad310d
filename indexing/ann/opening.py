"""From a kind of index, its file and its vectors to something that can be searched, on the device asked for."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np

from indexing.ann.exact import ExactIndex
from indexing.ann.faiss_index import Effort, FaissIndex
from indexing.ann.faiss_kinds import EXACT
from indexing.ann.gpu import Choice, GpuIndex, choose_device
from indexing.ann.guarded import GuardedIndex
from indexing.ann.protocols import VectorIndex
from indexing.ann.recall import recalls_of
from indexing.bundle.manifest import JsonMap
from retrieval.errors import BadConfig
from retrieval.topk import Vectors

CANARIES, CANARY_K, CANARY_RECALL = 16, 10, 0.9  # asked of a copy on a device before anything is answered from it


class Kept(NamedTuple):
    """How an index is searched, as `write_index` says it and a manifest keeps it."""

    factory: str
    effort: Effort
    dim: int
    exact_rows: int | None  # None: not measured

    @classmethod
    def of(cls, about: JsonMap) -> Kept:
        """What a manifest says; KeyError, TypeError or ValueError where it says something else."""
        effort, dim, filters = about["effort"], about["dim"], about.get("filters")
        rows = filters["exact_rows"] if filters else None  # type: ignore[index, call-overload]
        return cls(str(about["factory"]), Effort(**effort), int(dim), None if rows is None else int(rows))  # type: ignore[arg-type]


def build_index(
    vectors: Vectors, factory: str, *, effort: Effort | None = None, seed: int = 0, device: str = "cpu"
) -> VectorIndex:
    """An index over vectors float32 [n, dim], built in memory. Errors: see `choose_device`, `FaissIndex.build` and
    `tried`."""
    choice = choose_device(device, factory)
    if factory == EXACT and choice.device == "cpu":
        return ExactIndex(vectors)
    return _placed(FaissIndex.build(vectors, factory, effort=effort, seed=seed), vectors, choice)


def open_index(
    path: Path,
    vectors: Vectors,
    *,
    factory: str,
    effort: Effort | None = None,
    exact_rows: int | None = None,
    device: str = "auto",
) -> VectorIndex:
    """An index as `build_version` left it: `path` is its FAISS file, which an exact index has none of.

    `exact_rows` is what `indexing.crossover` measured on the CPU; a GPU is not asked to keep to it.
    """
    choice = choose_device(device, factory)
    if factory != EXACT:
        return _placed(FaissIndex.read(path, effort or Effort()), vectors, choice, exact_rows)
    if choice.device == "cpu":
        return ExactIndex(vectors)
    return _placed(FaissIndex.build(vectors, EXACT), vectors, choice)


def _placed(index: FaissIndex, vectors: Vectors, choice: Choice, exact_rows: int | None = None) -> VectorIndex:
    here = GuardedIndex(index, vectors, exact_rows=exact_rows)
    return here if choice.device == "cpu" else tried(GuardedIndex(GpuIndex.copy(index), vectors), here, vectors)


def tried(copy: VectorIndex, source: VectorIndex, vectors: Vectors) -> VectorIndex:
    """A copy of an index on a device, if it answers what its source does; BadConfig where it does not."""
    queries = vectors[np.linspace(0, len(vectors) - 1, CANARIES, dtype=np.int64)]
    k = min(CANARY_K, len(vectors))
    found = float(np.mean(recalls_of(copy.search(queries, k), source.search(queries, k))))
    if found < CANARY_RECALL:
        raise BadConfig(
            f"{copy.placement}: finds {found:.0%} of what its source on the CPU finds; use device=cpu, check the GPU"
        )
    return copy
