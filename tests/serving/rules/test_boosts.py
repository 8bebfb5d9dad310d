"""Relevance on one scale, and what boosts add to it."""

from __future__ import annotations

import numpy as np
import pytest

from serving.rules.boosts import relevance, reordered, shift
from serving.rules.load import parse_rules
from serving.rules.prepared import Prepared

ROWS = np.array([[4, 2, 0, -1]])


def boost(line: str) -> Prepared:
    (rule,) = parse_rules(f'[[rule]]\nname = "b"\n{line}\n').rules
    return Prepared(rule, mask=np.array([True, False, False, False, False]))


def test_relevance_does_not_depend_on_the_scale_of_scores() -> None:
    scores = np.array([[9.0, 5.0, 1.0, -np.inf]])
    np.testing.assert_allclose(relevance(ROWS, scores), relevance(ROWS, 100 * scores + 3), atol=1e-12)
    np.testing.assert_allclose(relevance(ROWS, scores)[0, :3], [1.224745, 0, -1.224745], atol=1e-6)
    assert relevance(ROWS, np.full((1, 4), 2.0)).tolist() == [[0.0, 0.0, 0.0, -np.inf]]
    assert np.isfinite(relevance(ROWS, np.array([[1.0, np.nan, -np.inf, -np.inf]]))[0, :3]).all()


def test_items_move_by_the_strength_and_buried_ones_down() -> None:
    assert shift(ROWS, boost('kind = "boost"\nitems = ["x"]\nstrength = 0.5')).tolist() == [[0, 0, 0.5, 0]]
    assert shift(ROWS, boost('kind = "bury"\nitems = ["x"]')).tolist() == [[0, 0, -1, 0]]


def test_a_column_moves_each_item_by_its_own_distance_from_the_mean() -> None:
    margin = boost('kind = "boost"\ncolumn = "margin"\nstrength = 2')._replace(
        numbers=np.array([3.0, 9.0, np.nan, 9.0, 1.0])
    )
    assert shift(ROWS, margin).tolist() == [[-2.0, 0.0, 2.0, 0.0]]  # of what is not known nothing changes


@pytest.mark.parametrize(
    ("fixed", "wanted"), [([False] * 4, [2, 0, 1, 3]), ([False, True, False, False], [1, 2, 0, 3])]
)
def test_equal_ones_keep_their_order_and_fixed_ones_stand_in_front(fixed: list[bool], wanted: list[int]) -> None:
    assert reordered(np.array([[1.0, 1.0, 2.0, -np.inf]]), np.array([fixed])).tolist() == [wanted]
