"""Exact top-k against a sort of all scores."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retrieval import topk
from retrieval.errors import BadRequest
from retrieval.topk import CSR, Hits, best_columns, exact_topk


def by_sorting(queries, items, k, allowed=None, exclude=None):
    """The oracle: sort everything, one query at a time."""
    rows = np.full((len(queries), k), -1, np.int64)
    for i, query in enumerate(queries):
        scores = items @ query
        banned = set() if exclude is None else set(exclude.rows[exclude.indptr[i] : exclude.indptr[i + 1]].tolist())
        usable = [r for r in range(len(items)) if (allowed is None or allowed[r]) and r not in banned]
        best = sorted(usable, key=lambda r: (-scores[r], r))[:k]
        rows[i, : len(best)] = best
    return rows


@st.composite
def problems(draw):
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    n, m, dim = draw(st.integers(1, 6)), draw(st.integers(1, 40)), draw(st.integers(1, 4))
    small = lambda shape: rng.integers(-2, 3, shape).astype(np.float32)  # noqa: E731  whole numbers: many exact ties
    allowed = rng.random(m) < draw(st.sampled_from([0.0, 0.1, 0.5, 1.0])) if draw(st.booleans()) else None
    lists = [rng.integers(0, m, rng.integers(0, m + 1)) for _ in range(n)]
    exclude = CSR.from_lists(lists) if draw(st.booleans()) else None
    return small((n, dim)), small((m, dim)), draw(st.integers(1, 50)), allowed, exclude


@given(problem=problems(), block=st.sampled_from([1, 7, 1000]), item_block=st.sampled_from([1, 5, 64]))
@settings(max_examples=150, deadline=None)
def test_equals_a_full_sort_with_ties_masks_and_exclusions(problem, block, item_block):
    queries, items, k, allowed, exclude = problem
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(topk, "ITEM_BLOCK", item_block)
        hits = exact_topk(queries, items, k, allowed=allowed, exclude=exclude, block=block)
    assert hits.rows.tolist() == by_sorting(queries, items, k, allowed, exclude).tolist()
    held = hits.rows >= 0
    assert np.array_equal(hits.scores[held], (queries @ items.T)[np.nonzero(held)[0], hits.rows[held]])
    assert np.all(hits.scores[~held] == -np.inf)
    assert hits.rows.dtype == np.int64
    assert hits.scores.dtype == np.float32


def test_a_score_that_is_not_a_number_is_never_answered():
    items = np.array([[1.0], [np.nan], [3.0]], np.float32)
    hits = exact_topk(np.ones((1, 1), np.float32), items, 3)
    assert hits.rows.tolist() == [[2, 0, -1]]


def test_an_empty_catalogue_and_no_queries_give_padded_and_empty_answers():
    none = np.empty((0, 2), np.float32)
    assert exact_topk(np.ones((1, 2), np.float32), none, 2).rows.tolist() == [[-1, -1]]
    assert exact_topk(none, np.ones((3, 2), np.float32), 2).rows.shape == (0, 2)


def test_k_below_one_is_refused():
    with pytest.raises(BadRequest, match="k is 0"):
        exact_topk(np.ones((1, 1), np.float32), np.ones((1, 1), np.float32), 0)


def test_best_columns_takes_the_lowest_of_those_tied_at_the_edge():
    hits = best_columns(np.array([[1, 5, 1, 1, 5, 1]], np.float32), 3)
    assert hits.rows.tolist() == [[1, 4, 0]]


def test_lists_select_by_position_and_by_mask():
    lists = CSR.from_lists([[3, 1], [], [2], [5, 6, 7]])
    assert lists.owners.tolist() == [0, 0, 2, 3, 3, 3]
    for index in (np.array([3, 0]), np.array([True, False, False, True])):
        part = lists.select(index)
        expected = [[5, 6, 7], [3, 1]] if index.dtype != bool else [[3, 1], [5, 6, 7]]
        assert [part.rows[a:b].tolist() for a, b in zip(part.indptr[:-1], part.indptr[1:], strict=True)] == expected


def test_hits_select_and_head():
    hits = Hits(np.array([[1, 2], [3, 4]]), np.array([[2, 1], [2, 1]], np.float32))
    assert hits.select(np.array([1])).head(1).rows.tolist() == [[3]]
