"""A reranked prefix is permuted among its own places."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from ranking.ordering.permute import rerank, rerank_order
from retrieval.topk import Hits


def _hits(n: int, k: int) -> Hits:
    rows = np.arange(n * k, dtype=np.int64).reshape(n, k) * 7
    scores = np.tile(np.linspace(1, 0, k, dtype=np.float32), (n, 1))
    return Hits(rows, scores)


def test_the_head_is_ordered_by_score_and_the_tail_stays() -> None:
    hits = Hits(np.array([[10, 11, 12, 13, 14]]), np.array([[0.9, 0.8, 0.7, 0.6, 0.5]], np.float32))
    got = rerank(hits, np.array([[0.1, 3.0, 2.0]], np.float32))
    assert got.rows.tolist() == [[11, 12, 10, 13, 14]]
    np.testing.assert_array_equal(got.scores, hits.scores)  # a place keeps retrieval's score, so they still fall


def test_depth_bounds_what_may_move() -> None:
    hits = _hits(1, 4)
    scores = np.array([[1.0, 2.0, 3.0, 4.0]], np.float32)
    assert rerank(hits, scores, depth=2).rows.tolist() == [[7, 0, 14, 21]]
    assert rerank(hits, scores, depth=99).rows.tolist() == [[21, 14, 7, 0]]


def test_equal_scores_keep_the_order_given() -> None:
    hits = _hits(2, 6)
    np.testing.assert_array_equal(rerank(hits, np.zeros((2, 6), np.float32)).rows, hits.rows)


def test_what_could_not_be_scored_keeps_its_place() -> None:
    hits = _hits(1, 5)
    scores = np.array([[0.0, np.nan, 5.0, -np.inf, 9.0]], np.float32)
    assert rerank(hits, scores).rows.tolist() == [[28, 7, 14, 21, 0]]


def test_pads_stay_at_the_end_even_with_a_score() -> None:
    hits = Hits(np.array([[3, 4, -1]]), np.array([[0.5, 0.4, -np.inf]], np.float32))
    assert rerank(hits, np.array([[1.0, 2.0, 9.0]], np.float32)).rows.tolist() == [[4, 3, -1]]


def test_the_order_carries_the_scores_along() -> None:
    hits = _hits(1, 4)
    scores = np.array([[0.5, 2.0, 1.0]], np.float32)
    order = rerank_order(hits, scores)
    assert np.take_along_axis(scores, order, 1).tolist() == [[2.0, 1.0, 0.5]]


def test_no_query_gives_no_query() -> None:
    assert rerank(_hits(0, 5), np.empty((0, 5), np.float32)).rows.shape == (0, 5)


@given(
    hnp.arrays(
        np.float32,
        hnp.array_shapes(min_dims=2, max_dims=2, max_side=6),
        elements=st.floats(width=32, allow_nan=True, allow_infinity=True),
    ),
    st.integers(0, 8),
)
def test_rows_are_permuted_within_the_prefix_whatever_the_scores(scores: np.ndarray, depth: int) -> None:
    hits = _hits(scores.shape[0], scores.shape[1] + 2)
    got = rerank(hits, scores, depth)
    head = min(depth, scores.shape[1])
    np.testing.assert_array_equal(np.sort(got.rows[:, :head]), np.sort(hits.rows[:, :head]))
    np.testing.assert_array_equal(got.rows[:, head:], hits.rows[:, head:])
    ordered = np.take_along_axis(scores[:, :head], rerank_order(hits, scores, depth), 1)
    for line in ordered:
        finite = line[np.isfinite(line)]
        assert (np.diff(finite) <= 0).all()
