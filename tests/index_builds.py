"""Index versions of a generated catalogue, embedded by what remembers what it was given."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from indexing.bundle.bundle import Bundle
from indexing.version.build import Built, build_version
from retrieval.topk import Vectors

N, TEXT_DIM = 300, 16


class Encoder:
    """Turns a text into a vector that only depends on it, and remembers what it was given."""

    def __init__(self) -> None:
        self.read: list[str] = []

    def __call__(self, texts: Sequence[str]) -> Vectors:
        self.read += texts
        seeds = [int.from_bytes(text.encode()[:8].ljust(8), "big") % 2**32 for text in texts]
        return np.stack([np.random.default_rng(seed).normal(size=TEXT_DIM) for seed in seeds]).astype(np.float32)


def with_price(text_vectors: Vectors, items: pa.Table) -> Vectors:
    prices = items["price"].to_numpy().astype(np.float32)
    return np.concatenate([text_vectors, prices[:, None]], axis=1)


class Lengths:
    """A numpy item column: the length of each title, twice."""

    name = "lengths"
    fingerprint = "one"

    def compute(self, items: pa.Table, start: int, stop: int) -> NDArray[np.int32]:
        lengths = [len(title) for title in items["title"].slice(start, stop - start).to_pylist()]
        return np.repeat(np.array(lengths, np.int32)[:, None], 2, axis=1)


class Words:
    """An Arrow item column: the words of each title."""

    name = "words"
    fingerprint = "two"

    def compute(self, items: pa.Table, start: int, stop: int) -> pa.Array:
        titles = items["title"].slice(start, stop - start).to_pylist()
        return pa.array([title.split() for title in titles], pa.list_(pa.string()))


def catalogue(n: int = N, price: float = 1.0) -> tuple[pa.Table, list[str]]:
    titles = [f"{i:04d} thing of kind {i % 7}" for i in range(n)]
    items = pa.table(
        {
            "item_id": [f"id-{i}" for i in range(n)],
            "title": titles,
            "price": [price + i % 5 for i in range(n)],
            "category": pa.array([["a", "b"][: i % 3] for i in range(n)], pa.list_(pa.string())),
        }
    )
    return items, titles


def build(bundle: Bundle, encoder: Encoder | None = None, **changes: object) -> Built:
    items, texts = catalogue()
    arguments: dict[str, object] = {
        "items": items,
        "texts": texts,
        "encode": encoder or Encoder(),
        "item_vectors": with_price,
        "towers": "t1",
        "text_encoder": "minilm",
    }
    return build_version(bundle, **(arguments | changes))  # type: ignore[arg-type]
