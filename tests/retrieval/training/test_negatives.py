"""Hard negatives out of vectors whose order is known."""

from __future__ import annotations

import numpy as np

from retrieval.topk import CSR
from retrieval.training.negatives import mine_negatives, veto_negatives

ITEMS = np.array([[1 - row / 20, 0] for row in range(20)], np.float32)  # the query below ranks them 0, 1, 2 and so on
QUERY = np.array([[1, 0]], np.float32)


def mine(
    *, positive: int = 0, known: tuple[int, ...] = (0,), count: int = 3, window: tuple[int, int] = (0, 20),
    margin: float | None = None, seed: int = 0, pool: list[int] | None = None,
) -> list[int]:  # fmt: skip
    allowed = None if pool is None else np.isin(np.arange(len(ITEMS)), pool)
    found = mine_negatives(
        QUERY, ITEMS, np.array([positive]), CSR.from_lists([known]),
        count=count, window=window, margin=margin, rng=np.random.default_rng(seed), pool=allowed,
    )  # fmt: skip
    assert found.shape == (1, count)
    return [int(row) for row in found[0]]


def test_negatives_come_from_the_window_of_ranks_and_each_once() -> None:
    drawn = [mine(positive=19, window=(2, 7), known=(), seed=seed) for seed in range(60)]
    assert {row for one in drawn for row in one} == {2, 3, 4, 5, 6}
    assert all(len(set(one)) == 3 for one in drawn)


def test_ranks_count_what_is_not_known_to_be_good() -> None:
    assert sorted(mine(known=(0, 1, 4), window=(1, 4))) == [3, 5, 6]


def test_the_positive_is_never_drawn_even_where_it_is_not_known() -> None:
    assert sorted(mine(positive=3, known=(), window=(2, 5))) == [-1, 2, 4]


def test_what_scores_above_the_positive_less_the_margin_is_suspected() -> None:
    everything = mine(positive=4, known=(4,), window=(0, 9), margin=0.0, count=9)
    assert sorted(row for row in everything if row >= 0) == [5, 6, 7, 8, 9]
    strict = mine(positive=4, known=(4,), window=(0, 9), margin=0.12, count=9)  # scores fall by .05 a row
    assert sorted(row for row in strict if row >= 0) == [7, 8, 9]


def test_without_a_margin_nothing_is_suspected_and_where_nothing_is_left_rows_are_padded() -> None:
    assert sorted(mine(positive=19, known=(19,), window=(0, 3), margin=None)) == [0, 1, 2]
    assert mine(positive=19, known=(19,), window=(0, 3), margin=0.0) == [-1, -1, -1]
    assert sorted(mine(window=(17, 30))) == [-1, 18, 19]


def test_only_the_pool_is_mined_and_its_ranks_count() -> None:
    assert sorted(mine(pool=[0, 5, 9, 11, 15], window=(1, 4))) == [9, 11, 15]


def test_the_same_seed_draws_the_same() -> None:
    assert mine(seed=3) == mine(seed=3)
    assert len({tuple(mine(seed=seed)) for seed in range(9)}) > 1


def test_a_judge_removes_what_it_prefers_to_the_positive() -> None:
    scores, of_positive = np.array([[0.9, 0.2, 0.5]], np.float32), np.array([0.5], np.float32)
    kept = veto_negatives(np.array([[7, -1, 9]]), scores, of_positive)
    assert kept.tolist() == [[-1, -1, 9]]
