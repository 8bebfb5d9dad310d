"""The vectors of a bundle's items and of its own shoppers, as the engine reads them."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from benchmarks.index_curves import IndexCurves
from benchmarks.sweep import Knobs, open_engine
from retrieval.topk import Vectors
from serving.engine import Engine

SHOPPERS, FEW = 1_000, 100


def curves_of(bundle: Path, *, device: str, seed: int, seconds: float, few: bool) -> IndexCurves:
    """What to draw of a bundle's live release. Raises BadBundle where it cannot be opened."""
    engine = open_engine(bundle, Knobs(), device)
    version = engine.stages.version
    items = np.ascontiguousarray(version.vectors_at(np.arange(version.size)), np.float32)
    return IndexCurves(items, query_vectors(engine, FEW if few else SHOPPERS, seed), seconds)


def query_vectors(engine: Engine, n: int, seed: int) -> Vectors:
    """User vectors float32 [n, dim] of shoppers drawn at random; of past queries or titles where there are none."""
    rng = np.random.default_rng(seed)
    users: list[str] = engine.shoppers.user_ids.to_pylist()
    if users:
        drawn = [users[at] for at in rng.integers(len(users), size=n)]
        batches = [engine.histories.of_shopper(user).batch for user in drawn]
        vectors = np.concatenate(
            [engine.stages.history_vectors(batch, engine.shoppers.query_texts) for batch in batches]
        )
        return vectors[vectors.any(axis=1)]
    version = engine.stages.version
    texts = list(engine.shoppers.query_texts) or version.values_at("title", np.arange(version.size)).to_pylist()
    return engine.stages.user.queries([texts[at] for at in rng.integers(len(texts), size=n)])
