"""Beyond accuracy: equalities that hold of any lists, and small cases worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from retrieval.metrics.beyond_accuracy import (
    calibration_at,
    diversity_at,
    exposure_at,
    exposure_gap,
    head_items,
    revenue_at,
    value_recall_at,
)
from retrieval.metrics.ranking import recall_at
from retrieval.topk import CSR, Hits

ITEMS, K = 12, 5


def drawn(seed: int, n: int = 6) -> tuple[Hits, CSR, np.ndarray]:
    """Random lists without repeats, some short and some with ties, targets, and a value of each item."""
    rng = np.random.default_rng(seed)
    rows = np.stack([rng.permutation(ITEMS)[:8] for _ in range(n)]).astype(np.int64)
    scores = -np.sort(-rng.integers(0, 5, rows.shape).astype(np.float32), axis=1)
    for line in range(n):
        rows[line, rng.integers(2, 9) :] = -1
    scores[rows < 0] = -np.inf
    targets = CSR.from_lists([rng.permutation(ITEMS)[: rng.integers(0, 4)] for _ in range(n)])
    return Hits(rows, scores), targets, rng.random(ITEMS) * 100


@given(st.integers(0, 10_000), st.floats(0.5, 100))
def test_where_all_is_worth_the_same_value_recall_is_recall(seed: int, worth: float) -> None:
    hits, targets, _ = drawn(seed)
    found = value_recall_at(hits, targets, np.full(len(targets.rows), worth), K)
    np.testing.assert_allclose(found, recall_at(hits, targets, K))


@given(st.integers(0, 10_000))
def test_revenue_is_the_mean_of_value_recall_weighted_by_worth(seed: int) -> None:
    hits, targets, values = drawn(seed)
    worth = values[targets.rows]
    each = value_recall_at(hits, targets, worth, K)
    weights = np.bincount(targets.owners, worth, targets.n_lists)
    whole = revenue_at(hits, targets, worth, K)
    if weights.any():
        assert whole == pytest.approx(np.nansum(np.nan_to_num(each) * weights) / weights.sum())
    else:
        assert np.isnan(whole)


def test_an_item_without_a_price_is_worth_nothing_and_no_price_at_all_is_no_figure() -> None:
    hits, targets = Hits(np.array([[3, 1]]), np.array([[2.0, 1.0]], np.float32)), CSR.from_lists([[3, 7]])
    assert value_recall_at(hits, targets, np.array([np.nan, 4.0]), 2).tolist() == [0.0]
    assert np.isnan(value_recall_at(hits, targets, np.array([np.nan, np.nan]), 2)).all()


@given(st.integers(0, 10_000))
def test_diversity_is_the_mean_over_all_pairs_and_does_not_change_with_the_length_of_vectors(seed: int) -> None:
    hits, _, _ = drawn(seed)
    rng = np.random.default_rng(seed)
    vectors = rng.normal(size=(ITEMS, 4)).astype(np.float32)
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    found = diversity_at(hits, vectors * rng.uniform(0.5, 2, (ITEMS, 1)).astype(np.float32), K)
    for line, rows in enumerate(hits.rows[:, :K]):
        shown = rows[rows >= 0]
        pairs = [1 - unit[a] @ unit[b] for at, a in enumerate(shown) for b in shown[:at]]
        np.testing.assert_allclose(found[line], np.mean(pairs) if pairs else np.nan, atol=1e-5)


def test_a_list_like_the_history_is_calibrated_and_one_unlike_it_is_not() -> None:
    codes = np.array([0, 0, 1, 1, -1])
    history = CSR.from_lists([[0, 2], [0, 2], [4]])
    hits = Hits(np.array([[1, 3], [0, 1], [0, 1]]), np.zeros((3, 2), np.float32))
    like, unlike, unknown = calibration_at(hits, history, codes, 2)
    assert like == pytest.approx(0, abs=1e-12)
    assert unlike > 1
    assert np.isnan(unknown)


@given(st.integers(0, 10_000))
def test_exposure_sums_to_one_and_its_gap_is_a_distance(seed: int) -> None:
    hits, _, values = drawn(seed)
    codes = np.arange(ITEMS) % 3
    shown = exposure_at(hits, codes, K)
    assert shown.sum() == pytest.approx(1)
    other = np.bincount(codes, values) / values.sum()
    assert exposure_gap(shown, shown) == 0
    assert 0 <= exposure_gap(shown, other) <= 1
    assert exposure_gap(shown, other) == pytest.approx(exposure_gap(other, shown))


def test_the_first_place_counts_for_more_and_groups_that_never_meet_are_one_apart() -> None:
    hits = Hits(np.array([[0, 1]]), np.array([[2.0, 1.0]], np.float32))
    first, second = exposure_at(hits, np.array([0, 1]), 2)
    assert first / second == pytest.approx(np.log2(3))
    assert exposure_gap(np.array([1.0, 0.0]), np.array([0.0, 1.0])) == 1


@given(st.lists(st.integers(0, 50), min_size=1, max_size=30), st.floats(0.1, 1.0))
def test_the_head_is_the_fewest_items_that_make_up_its_share(counts: list[int], share: float) -> None:
    sold = np.array(counts)
    head = head_items(sold, share)
    if sold.any():
        assert sold[head].sum() >= share * sold.sum() - 1e-9
        assert sold[head].sum() - sold[head].min() < share * sold.sum()
        assert sold[head].min() >= sold[~head].max(initial=0)
    else:
        assert not head.any()
