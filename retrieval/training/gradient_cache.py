"""Gradient caching: embedding a batch that does not fit in memory, with the gradients of the whole batch."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from sentence_transformers import SentenceTransformer
from torch import Tensor
from torch.utils.checkpoint import checkpoint


def embed(model: SentenceTransformer, features: dict[str, Tensor], mini_batch: int | None = None) -> Tensor:
    """Sentence vectors float [n, dim] of n tokenised texts, computed `mini_batch` texts at a time (None: all at once).

    The loss sees the vectors of all texts, while at most one chunk's activations are in memory (Gao et al. 2021). They
    are dropped once the chunk is embedded, and recomputed under the same random state, so with the same dropout, when
    the gradient reaches the chunk's vectors.
    """
    if mini_batch is None or len(features["input_ids"]) <= mini_batch:
        return _vectors(model, features)
    parts = [checkpoint(_vectors, model, part, use_reentrant=False) for part in _chunks(features, mini_batch)]
    return torch.cat(parts)


def _vectors(model: SentenceTransformer, features: dict[str, Tensor]) -> Tensor:
    vectors: Tensor = model(dict(features))["sentence_embedding"]
    return vectors


def _chunks(features: dict[str, Tensor], size: int) -> Iterator[dict[str, Tensor]]:
    """The features in chunks of `size` texts; entries that are no tensors go with every chunk."""
    for start in range(0, len(features["input_ids"]), size):
        yield {
            name: value[start : start + size] if isinstance(value, Tensor) else value
            for name, value in features.items()
        }
