"""What is known of a kind of index before it is built."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from indexing.ann.faiss_index import FaissIndex
from indexing.ann.faiss_kinds import kinds_for, ladders_for
from retrieval.topk import Vectors


def vectors(n: int, dim: int) -> Vectors:
    return np.random.default_rng(0).normal(size=(n, dim)).astype(np.float32)


@pytest.mark.parametrize("dim", [32, 33])
def test_every_kind_can_be_built_and_holds_about_what_was_foreseen(dim: int) -> None:
    items = vectors(3_000, dim)
    for kind in kinds_for(*items.shape):
        held = FaissIndex.build(items, kind.factory).nbytes
        assert kind.bytes == pytest.approx(held, rel=0.15), kind.factory


def test_a_family_is_the_same_over_any_number_of_vectors_and_graphs_end_where_they_take_too_long() -> None:
    few, many, most = ([kind.family for kind in kinds_for(n, 384)] for n in (1_000, 300_000, 5_000_000))
    assert few == many
    assert set(few) - set(most) == {"HNSW32", "HNSW32_SQ8"}
    assert len(set(few)) == len(few)


def test_a_few_vectors_are_only_scanned() -> None:
    assert kinds_for(999, 384) == []


def test_cells_grow_with_the_catalogue_and_no_effort_visits_more_than_there_are() -> None:
    for n in (1_000, 10_000, 1_000_000):
        for kind in kinds_for(n, 65):
            if "IVF" in kind.factory:
                cells = int(kind.factory.partition("IVF")[2].partition(",")[0])
                params = [params for ladder in ladders_for(kind.factory) for params in ladder]
                assert 1 <= max(params.nprobe for params in params) <= cells <= 8 * n**0.5


@pytest.mark.parametrize(
    "factory", ["SQ8", "HNSW8", "IVF16,Flat", "IVF4096,PQ8x4fs", "PQ8x4fs", "Pad34,IVF16,PQ17x4fs"]
)
def test_each_effort_of_a_ladder_is_above_the_one_before(factory: str) -> None:
    for ladder in ladders_for(factory):
        assert all(low.below(high) for low, high in pairwise(ladder))
