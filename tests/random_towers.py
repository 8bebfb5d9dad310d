"""Towers with something random in every part, and histories for them to read."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import torch

from retrieval.data.timeline import GAP_BUCKETS, QUERY_KIND, HistoryBatch
from retrieval.text.rendering import rendering_fingerprint
from retrieval.towers.item_features import ItemFeatures
from retrieval.towers.sequence_model import HistoryModel, ItemHead
from retrieval.towers.serving import TowersConfig

DIM, IDENTITY, LINEAR, TEXT_DIM, LONGEST, KINDS = 8, 4, 3, 32, 6, ("purchase", "view", QUERY_KIND)
ITEMS = pa.table(
    {
        "item_id": ["a", "b", "c", "d", "e", "f"],
        "title": ["red mug", "blue mug", "steel drill", "hair mask", "lamp", "oil"],
        "price": pa.array([3.0, 4.0, 80.0, None, 20.0, 9.0]),
        "category": pa.array([["k"], ["k", "s"], ["t", "k"], None, ["s"], ["s"]]),
    }
)
FEATURES = ItemFeatures(price_edges=(3.5, 10.0, 50.0), categories=("k", "s"))
CONFIG = TowersConfig(
    dim=DIM,
    text_dim=TEXT_DIM,
    rendering=rendering_fingerprint(),
    features={"price_edges": list(FEATURES.price_edges), "categories": list(FEATURES.categories)},
    item_ids=tuple(ITEMS["item_id"].to_pylist()),
    kinds=KINDS,
    identity=IDENTITY,
    linear=LINEAR,
    linear_decay=0.5,
    history={"width": 8, "layers": 2, "heads": 2, "longest": LONGEST, "gated": 0},
)
FACTORS = {
    name: torch.randn(size, generator=torch.Generator().manual_seed(9))
    for name, size in {
        "source": (ITEMS.num_rows, LINEAR), "target": (ITEMS.num_rows, LINEAR),
        "factors_from_text": (TEXT_DIM + 1, 2 * LINEAR), "identity_from_content": (DIM + 1, IDENTITY),
    }.items()
}  # fmt: skip


def drawn(module: torch.nn.Module, seed: int) -> torch.nn.Module:
    """The module with something in every part."""
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(seed)
        for parameter in module.parameters():
            torch.nn.init.normal_(parameter, std=0.5)
    return module.eval()


def random_head() -> ItemHead:
    made = drawn(
        ItemHead(torch.zeros(DIM, TEXT_DIM), FEATURES, ITEMS.num_rows, identity=IDENTITY, residual_drop=0.2), 1
    )
    assert isinstance(made, ItemHead)
    return made


def random_model() -> HistoryModel:
    made = drawn(
        HistoryModel(
            DIM, len(KINDS), identity=IDENTITY, width=8, layers=2, heads=2, dropout=0.5, longest=LONGEST, gated=False
        ),
        2,
    )
    assert isinstance(made, HistoryModel)
    made.identity_scale.fill_(0.3)
    return made


def some_histories(lengths: Sequence[int], width: int, seed: int = 0) -> HistoryBatch:
    """Random histories of some lengths, padded at the front to one width."""
    rng, shape = np.random.default_rng(seed), (len(lengths), width)
    present = np.arange(width, 0, -1) <= np.array(lengths)[:, None]
    return HistoryBatch(
        np.where(present, rng.integers(0, ITEMS.num_rows, shape), -1),
        np.full(shape, -1, np.int64),
        np.where(present, rng.integers(0, len(KINDS) + 1, shape), 0),
        np.where(present, rng.integers(0, GAP_BUCKETS, shape), 0),
        present,
    )
