"""From a kind of index, its file and its vectors to something that can be searched, on the device asked for."""

from __future__ import annotations

from pathlib import Path

from indexing.exact import ExactIndex
from indexing.faiss_index import Effort, FaissIndex
from indexing.gpu import Choice, GpuIndex, choose_device
from indexing.guarded import GuardedIndex
from indexing.index import VectorIndex
from indexing.tune import EXACT
from retrieval.topk import Vectors


def build_index(
    vectors: Vectors, factory: str, *, effort: Effort | None = None, seed: int = 0, device: str = "cpu"
) -> VectorIndex:
    """An index over vectors float32 [n, dim], built in memory. Errors: see `choose_device` and `FaissIndex.build`."""
    choice = choose_device(device, factory)
    if factory == EXACT and choice.device == "cpu":
        return ExactIndex(vectors)
    return _placed(FaissIndex.build(vectors, factory, effort=effort, seed=seed), vectors, choice)


def open_index(
    path: Path, vectors: Vectors, *, factory: str, effort: Effort | None = None, device: str = "auto"
) -> VectorIndex:
    """An index as `build_version` left it: `path` is its FAISS file, which an exact index has none of."""
    choice = choose_device(device, factory)
    if factory != EXACT:
        return _placed(FaissIndex.read(path, effort or Effort()), vectors, choice)
    if choice.device == "cpu":
        return ExactIndex(vectors)
    return _placed(FaissIndex.build(vectors, EXACT), vectors, choice)


def _placed(index: FaissIndex, vectors: Vectors, choice: Choice) -> VectorIndex:
    return GuardedIndex(GpuIndex(index) if choice.device == "cuda" else index, vectors)
