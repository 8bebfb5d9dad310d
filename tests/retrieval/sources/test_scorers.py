"""What orders candidates and proposes none: prices that fit, and new items."""

from __future__ import annotations

import numpy as np
import pytest

from retrieval.data.time_units import DAY
from retrieval.sources.protocols import CandidateSource, RequestBatch
from retrieval.sources.scorers import Newness, PriceFit
from retrieval.topk import CSR


def asked(*taken: list[int], day: int = 0) -> RequestBatch:
    lists = CSR.from_lists(taken)
    return RequestBatch(lists, lists, lists, lists, np.full(len(taken), day), [""] * len(taken), lists)


def scores(source: CandidateSource, request: RequestBatch, rows: list[int]) -> list[list[float]]:
    pairs = CSR.from_lists([rows] * request.taken.n_lists)
    return [part.tolist() for part in np.split(source.read(request).at(pairs), request.taken.n_lists)]


def test_the_price_nearest_to_what_was_taken_fits_best() -> None:
    prices = PriceFit.of(np.array([1.0, 10.0, 20.0, 400.0]))
    cheap, dear = scores(prices, asked([0, 0, 0], [3, 3]), [0, 1, 2, 3])
    assert cheap[0] == dear[3] == pytest.approx(1)
    assert cheap == sorted(cheap, reverse=True)
    assert dear == sorted(dear)


def test_who_took_only_one_price_minds_another_more_than_who_took_many() -> None:
    prices = PriceFit.of(np.array([10.0, 30.0, 3.0, 90.0]))
    steady, mixed = scores(prices, asked([0] * 20, [2, 0, 0, 3]), [1])
    assert steady[0] < mixed[0]


@pytest.mark.parametrize("unknown", [np.nan, 0.0, -3.0])
def test_a_price_that_is_not_known_fits_nobody_and_counts_for_nothing(unknown: float) -> None:
    prices = PriceFit.of(np.array([10.0, unknown, 12.0]))
    known, nothing, nobody = scores(prices, asked([0, 1], [1], []), [0, 1, 2])
    assert known == scores(prices, asked([0]), [0, 1, 2])[0]
    assert known[0] > known[2] > 0 == known[1]
    assert nothing == nobody == [0, 0, 0]


def test_without_any_price_nothing_fits() -> None:
    assert scores(PriceFit.of(np.full(2, np.nan)), asked([0]), [0, 1]) == [[0, 0]]


def test_an_item_is_the_newer_the_fewer_days_ago_its_first_event_was() -> None:
    time = np.array([9 * DAY, 3 * DAY + 5, 8 * DAY, 20 * DAY])
    newness = Newness.of(time, np.array([0, 0, 1, 2]), 4)
    assert scores(newness, asked([0], day=10), [0, 1, 2, 3]) == [pytest.approx([1 / 7, 1 / 2, 0, 0])]


def test_what_happens_on_a_requests_own_day_tells_nothing_of_it() -> None:
    newness = Newness.of(np.array([8 * DAY, 8 * DAY + 1]), np.array([0, 1]), 2)
    assert scores(newness, asked([0], day=8), [0, 1]) == [[0, 0]]
    assert scores(newness, asked([0], day=9), [0, 1]) == [[1, 1]]


def test_for_whoever_has_no_history_nothing_is_new() -> None:
    newness = Newness.of(np.array([DAY, 2 * DAY]), np.array([0, 1]), 2)
    assert scores(newness, asked([0], [], day=3), [0, 1]) == [[0.5, 1], [0, 0]]


def test_items_that_came_after_the_build_are_not_known_to_be_new() -> None:
    assert scores(Newness.of(np.array([DAY]), np.array([0]), 1), asked([0], day=2), [0, 1, 7]) == [[1, 0, 0]]


def test_neither_proposes_anything() -> None:
    request = asked([0, 1], [1], day=9)
    for source in (PriceFit.of(np.array([1.0, 2.0])), Newness.of(np.array([DAY]), np.array([0]), 2)):
        top = source.read(request).top(3)
        assert top.rows.shape == top.scores.shape == (2, 3)
        assert (top.rows < 0).all()
