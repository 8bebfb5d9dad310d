"""What was bought so lately that it is not answered again."""

from __future__ import annotations

import numpy as np
import pytest

from ranking.features.shortlists import ShopperEvents
from retrieval.data.time_units import DAY
from retrieval.topk import CSR
from serving.rules.bought import not_again

COFFEE, SOFA, MUG = range(3)
NOW = 1_000 * DAY


@pytest.mark.parametrize(
    ("days", "rest", "wanted"),
    [
        ([[14, 3650, np.nan]], False, [[SOFA], [COFFEE]]),
        ([[14, 3650, np.nan]], True, [[SOFA, MUG], [COFFEE]]),
        ([[30, 30, 30]], True, [[COFFEE], [COFFEE]]),
        ([[0, 0, 0]], True, [[], []]),
        ([[14, 30, 0], [np.nan, np.nan, 500]], False, [[MUG], [COFFEE]]),
    ],
)
def test_what_was_bought_comes_back_after_its_days(
    days: list[list[float]], rest: bool, wanted: list[list[int]]
) -> None:
    bought = [(COFFEE, 900), (SOFA, 910), (MUG, 920), (COFFEE, 980)], [(COFFEE, 995), (SOFA, 999)]
    events = ShopperEvents(
        CSR.from_lists([[item for item, _ in own] for own in bought]),
        np.array([0, 0, 0, 0, 0, 1]),  # the last is a look
        np.array([day * DAY for own in bought for _, day in own]),
    )
    taken = CSR.from_lists([[COFFEE, SOFA, MUG], [COFFEE]])
    found = not_again(taken, events, [0], NOW, [np.array(one) for one in days], rest=rest)
    assert [found.rows[found.owners == line].tolist() for line in range(2)] == wanted


def test_what_was_taken_before_the_known_events_counts_as_just_before_them() -> None:
    events = ShopperEvents(CSR.from_lists([[MUG], []]), np.array([0]), np.array([990 * DAY]))
    taken = CSR.from_lists([[SOFA, MUG], [COFFEE]])
    found = not_again(taken, events, [0], NOW, [np.full(3, 5.0)], rest=True)
    assert found.rows.tolist() == [COFFEE]  # nothing is known of when
