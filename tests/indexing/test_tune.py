"""The choice of a kind and of its effort."""

from __future__ import annotations

import numpy as np
import pytest

from indexing.exact import ExactIndex
from indexing.faiss_index import Effort, FaissIndex
from indexing.tune import choose_factory, fit_effort, recall
from retrieval.topk import Hits, Vectors, exact_topk


def vectors(n: int, dim: int = 16, seed: int = 0) -> Vectors:
    return np.random.default_rng(seed).normal(size=(n, dim)).astype(np.float32)


@pytest.mark.parametrize(
    ("n", "dim", "factory"),
    [
        (1, 8, "Flat"),
        (54_667, 384, "Flat"),
        (150_000, 128, "Flat"),
        (300_000, 384, "HNSW32_SQ8"),
        (2_000_000, 128, "HNSW32_SQ8"),
        (3_000_000, 128, "IVF8192,SQ8"),
        (16_000_000, 128, "IVF16384,SQ8"),
    ],
)
def test_the_kind_follows_the_size_of_the_vectors(n: int, dim: int, factory: str) -> None:
    assert choose_factory(n, dim) == factory


def test_effort_is_raised_until_the_recall_is_reached_and_no_further() -> None:
    items, queries = vectors(2_000), vectors(50, seed=1)
    index = FaissIndex.build(items, "IVF64,Flat", effort=Effort(nprobe=1))
    points = fit_effort(index, items, queries, k=10, target=0.8)
    assert [point.effort.nprobe for point in points] == [1, 2, 4, 8, 16][: len(points)]
    assert points[-1].recall >= 0.8 > points[-2].recall
    assert [point.recall for point in points] == sorted(point.recall for point in points)


def test_effort_stops_rising_when_the_recall_is_out_of_reach() -> None:
    items = vectors(500)
    index = FaissIndex.build(items, "IVF64,Flat", effort=Effort(nprobe=1))
    points = fit_effort(index, items, vectors(50, seed=1), k=100, target=1.01)
    assert [point.effort.nprobe for point in points] == [1, 2, 4, 8, 16]


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

    assert recall(ExactIndex(items), queries, truth) == 1
    assert recall(Twin(items), queries, truth) == 1
    assert recall(Half(items), queries, truth) == pytest.approx(2 / 3)


def test_recall_of_fewer_items_than_asked_for_is_whole() -> None:
    items = vectors(4)
    queries = vectors(3, seed=1)
    assert recall(ExactIndex(items), queries, exact_topk(queries, items, 10)) == 1
