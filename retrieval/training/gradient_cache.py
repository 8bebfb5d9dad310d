"""Embedding a batch that is larger than memory holds, with the gradients of the whole batch."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from sentence_transformers import SentenceTransformer
from torch import Tensor
from torch.utils.checkpoint import checkpoint


def embed(model: SentenceTransformer, features: dict[str, Tensor], mini_batch: int | None = None) -> Tensor:
    """Sentence vectors float [n, dim] of n tokenised texts; with `mini_batch`, so many texts at once.

    This is gradient caching (Gao et al. 2021): the loss sees the vectors of all texts, while the activations of one
    chunk at most are held. A chunk's are dropped once it is embedded, and computed again, under the same random state
    and so with the same dropout, when the loss's gradient reaches its vectors.
    """
    if mini_batch is None or len(features["input_ids"]) <= mini_batch:
        return _vectors(model, features)
    parts = [checkpoint(_vectors, model, part, use_reentrant=False) for part in _chunks(features, mini_batch)]
    return torch.cat(parts)


def _vectors(model: SentenceTransformer, features: dict[str, Tensor]) -> Tensor:
    vectors: Tensor = model(dict(features))["sentence_embedding"]
    return vectors


def _chunks(features: dict[str, Tensor], size: int) -> Iterator[dict[str, Tensor]]:
    """The features of `size` texts after `size` texts; what is not told text by text goes with all of them."""
    for start in range(0, len(features["input_ids"]), size):
        yield {
            name: value[start : start + size] if isinstance(value, Tensor) else value
            for name, value in features.items()
        }
