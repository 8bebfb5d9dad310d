"""Item and query vectors to measure indexes with: a bundle's own, from files, or generated."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np

from benchmarks.sweep import EngineOptions, open_engine
from benchmarks.vector_index.curves import IndexCurves
from benchmarks.vector_index.synthetic import item_vectors, user_vectors
from indexing.ann.gpu import cuda_obstacle
from retrieval.errors import BadData, MissingDependency
from retrieval.topk import Vectors
from serving.internals import TASKS, Batch, Engine, LiveRequests, Request, Task, encode, run

QUERIES, FEW = 1_000, 100  # the latter in a quick run
GROWTH = "10000,30000,100000,300000,1000000"  # items


def curves_of(bundle: Path, *, device: str, seed: int, seconds: float, few: bool) -> IndexCurves:
    """The curves of a bundle's live release. Raises BadBundle where it cannot be opened, and MissingDependency where
    there is no GPU for `device` cuda."""
    engine = open_engine(bundle, EngineOptions(), device)
    version = engine.state.version
    items = np.ascontiguousarray(version.vectors_at(np.arange(version.size)), np.float32)
    obstacle = cuda_obstacle() if device != "cpu" else "device=cpu"
    if device == "cuda" and obstacle is not None:
        raise MissingDependency(f"device=cuda: {obstacle}")
    return IndexCurves(items, query_vectors(engine, FEW if few else QUERIES, seed), seconds, obstacle is None, seed)


class VectorSource(NamedTuple):
    """Item vectors and query vectors, float32 [n, dim], and a name for them."""

    items: Vectors
    queries: Vectors
    name: str


def load_vectors(items: Path, queries: Path) -> VectorSource:
    """Vectors in files of numpy.save, the items memory-mapped. Raises BadData for other files or unequal dimensions."""
    found = [_load(path) for path in (items, queries)]
    if found[0].shape[1] != found[1].shape[1]:
        widths = f"{items} has vectors of {found[0].shape[1]} dimensions, {queries} of {found[1].shape[1]}"
        raise BadData(f"{widths}; give two files of the same model")
    return VectorSource(found[0], np.ascontiguousarray(found[1]), items.name)


def generate_vectors(n: int, dim: int, seed: int) -> VectorSource:
    """Generated vectors that are distributed like those of a shop, see `synthetic`."""
    rng = np.random.default_rng(seed)
    items = item_vectors(n, dim, rng)
    return VectorSource(items, user_vectors(items, QUERIES, rng), f"generated, seed {seed}")


def _load(path: Path) -> Vectors:
    try:
        found = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise BadData(f"{path}: cannot be read ({error}); give a file of numpy.save") from error
    if found.ndim != 2 or found.dtype != np.float32 or not len(found):
        raise BadData(f"{path}: holds {found.dtype} {list(found.shape)}; save vectors as float32 [n, dim]")
    vectors: Vectors = found.view(np.ndarray)
    return vectors


def query_vectors(engine: Engine, n: int, seed: int) -> Vectors:
    """Vectors float32 [n, dim] of random users, or of past queries or titles where there are no users."""
    rng = np.random.default_rng(seed)
    users: list[str] = engine.state.user_store.user_ids.to_pylist()
    if users:
        sample = [users[at] for at in rng.integers(len(users), size=n)]
        vectors = _encoded(engine, [Request(user_id=user) for user in sample], TASKS["recommend"])
        return vectors[vectors.any(axis=1)]
    version = engine.state.version
    texts = list(engine.state.user_store.query_texts) or version.values_at("title", np.arange(version.size)).to_pylist()
    requests = [Request(query=texts[at]) for at in rng.integers(len(texts), size=n)]
    return _encoded(engine, requests, TASKS["search"])


def _encoded(engine: Engine, requests: list[Request], task: Task) -> Vectors:
    """The query vectors of requests, float32 [n, dim]."""
    return run(engine.state, Batch(requests=LiveRequests(requests), task=task), until=encode).vectors
