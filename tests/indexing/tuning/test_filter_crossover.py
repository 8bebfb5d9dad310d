"""Which filters are left to exact search, by what was measured."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count

import numpy as np
import pytest

from indexing.ann.faiss_index import FaissIndex, SearchParams
from indexing.ann.guarded import GuardedIndex
from indexing.ann.recall import recalls_of
from indexing.tuning.filter_crossover import WIDENINGS, CrossoverMeter
from retrieval.topk import Mask, Vectors, exact_topk

N, DIM, K = 4_000, 16, 10


def vectors(n: int, seed: int) -> Vectors:
    found = np.random.default_rng(seed).normal(size=(n, DIM)).astype(np.float32)
    return found / np.linalg.norm(found, axis=1, keepdims=True)


ITEMS, QUERIES = vectors(N, 0), vectors(40, 1)


def even_clock() -> Callable[[], float]:
    """Everything takes as long as everything else."""
    return (float(tick) for tick in count()).__next__


def meter(**changes: object) -> CrossoverMeter:
    given = {"vectors": ITEMS, "queries": QUERIES, "k": K, "target": 0.9, "clock": even_clock()}
    return CrossoverMeter(**(given | changes))  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def cells() -> FaissIndex:
    return FaissIndex.build(ITEMS, "IVF64,Flat", params=SearchParams(nprobe=8))


def test_an_index_that_is_never_slower_and_finds_enough_answers_every_filter_that_was_tried(cells: FaissIndex) -> None:
    found = meter().measure(cells.with_params(SearchParams(nprobe=64)))
    assert [cost.allowed for cost in found.costs] == [N >> halving for halving in range(1, 9)]
    assert all(cost.recall == 1 for cost in found.costs)
    assert (found.exact_rows, found.filtered) == ((N >> 8) - 1, 1.0)


def test_an_index_that_finds_too_little_under_a_filter_is_asked_for_more(cells: FaissIndex) -> None:
    plain = meter(target=0.0).measure(cells)
    assert plain.filtered == 1
    assert plain.costs[0].recall < 0.95
    wanted = meter(target=0.99).measure(cells)
    assert wanted.filtered in WIDENINGS[1:]
    assert wanted.costs[0].recall >= 0.99
    assert wanted.exact_rows < N - 1


def test_an_index_that_cannot_find_enough_is_asked_under_no_filter(cells: FaissIndex) -> None:
    found = meter(target=1.01).measure(cells)
    assert found.exact_rows == N - 1
    assert found.to_json()["exact_rows"] == N - 1


def test_filters_that_allow_fewer_than_are_asked_for_are_not_tried(cells: FaissIndex) -> None:
    found = meter(k=600).measure(cells.with_params(SearchParams(nprobe=64)))
    assert [cost.allowed for cost in found.costs] == [2_000, 1_000]


def test_filters_that_lie_together_or_far_away_count_as_those_drawn_at_random_do(cells: FaissIndex) -> None:
    few = cells.with_params(SearchParams(nprobe=4))
    index = GuardedIndex(few, ITEMS, exact_rows=0)

    def recall_under(allowed: Mask) -> float:
        asked = QUERIES[:32]
        truth = exact_topk(asked, ITEMS, K, allowed=allowed)
        return float(recalls_of(index.search(asked, K, allowed=allowed), truth).mean())

    drawn = recall_under(np.random.default_rng(5).permutation(N) < N // 4)
    costs = meter(target=0.0).measure(few).costs
    assert costs[1].allowed == N // 4
    assert costs[1].recall < drawn - 0.05


def test_equal_seeds_draw_equal_filters(cells: FaissIndex) -> None:
    first, again = (meter(seed=3).measure(cells) for _ in range(2))
    assert first == again
