"""Candidate sources that read a shopper's own events: what each proposes, in which order."""

from __future__ import annotations

import numpy as np
from scipy.sparse import csr_array

from retrieval.sources.behaviour import CoOccurrence, InCart, OwnFrequency, RecentlyBrowsed, TakenBefore
from retrieval.topk import CSR
from source_requests import asked, co_occurrence


def test_what_goes_with_a_history_is_the_sum_over_its_distinct_items() -> None:
    hits = co_occurrence().read(asked([[0, 0, 1], [5]])).top(3)
    assert hits.rows.tolist() == [[2, 1, -1], [-1, -1, -1]]
    np.testing.assert_allclose(hits.scores[0, :2], np.log1p([0.75, 0.5]), rtol=1e-6)


def test_what_came_right_after_is_asked_of_the_last_event_alone() -> None:
    after = np.zeros((5, 5), np.float32)
    after[0, 1], after[2, 3], after[2, 4] = 9, 1, 3
    hits = CoOccurrence(csr_array(after), reads=1).read(asked([[0, 2], [2, 0], []])).top(2)
    assert hits.rows.tolist() == [[4, 3], [1, -1], [-1, -1]]
    np.testing.assert_allclose(hits.scores[0], np.log1p([3, 1]), rtol=1e-6)


def test_own_frequency_counts_what_was_taken() -> None:
    hits = OwnFrequency().read(asked([[4, 1, 4], [], [2]])).top(2)
    assert hits.rows.tolist() == [[4, 1], [-1, -1], [2, -1]]
    np.testing.assert_allclose(hits.scores[0], np.log1p([2, 1]), rtol=1e-6)
    assert TakenBefore().read(asked([[4, 1, 4]])).top(2).scores.tolist() == [[1, 1]]


def test_what_was_looked_at_last_stands_first() -> None:
    hits = RecentlyBrowsed().read(asked([[4, 1, 3], [], [2, 0]])).top(3)
    assert hits.rows.tolist() == [[3, 1, 4], [-1] * 3, [0, 2, -1]]
    np.testing.assert_allclose(hits.scores[0], [1, 1 / 2, 1 / 3], rtol=1e-6)


def test_what_was_put_in_the_cart_last_stands_first_whatever_was_looked_at() -> None:
    hits = InCart().read(asked([[4, 1], []])._replace(browsed=CSR.from_lists([[0, 2], [3]]))).top(3)
    assert hits.rows.tolist() == [[1, 4, -1], [-1] * 3]
    np.testing.assert_allclose(hits.scores[0, :2], [1, 1 / 2], rtol=1e-6)
