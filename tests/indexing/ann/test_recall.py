"""Recall by score, against exact search."""

from __future__ import annotations

import numpy as np
import pytest

from indexing.ann.exact import ExactIndex
from indexing.ann.recall import recalls
from retrieval.topk import Hits, Vectors, exact_topk


def vectors(n: int, dim: int = 16, seed: int = 0) -> Vectors:
    return np.random.default_rng(seed).normal(size=(n, dim)).astype(np.float32)


def test_recall_counts_equal_vectors_alike_and_missing_ones_as_missed() -> None:
    items = np.repeat(vectors(20), 2, axis=0)
    queries = vectors(5, seed=1)
    truth = exact_topk(queries, items, 3)

    class Twin(ExactIndex):
        def search(self, *arguments: object, **named: object) -> Hits:
            hits = super().search(*arguments, **named)  # type: ignore[arg-type]
            return Hits(hits.rows ^ 1, hits.scores)

    class Half(ExactIndex):
        def search(self, *arguments: object, **named: object) -> Hits:
            hits = super().search(*arguments, **named)  # type: ignore[arg-type]
            return Hits(hits.rows, np.where(np.arange(hits.rows.shape[1]) < 2, hits.scores, -np.inf).astype(np.float32))

    assert recalls(ExactIndex(items), queries, truth).tolist() == [1.0] * 5
    assert recalls(Twin(items), queries, truth).tolist() == [1.0] * 5
    assert recalls(Half(items), queries, truth) == pytest.approx([2 / 3] * 5)


def test_recall_of_fewer_items_than_asked_for_is_whole() -> None:
    items, queries = vectors(4), vectors(3, seed=1)
    assert recalls(ExactIndex(items), queries, exact_topk(queries, items, 10)).tolist() == [1.0] * 3
