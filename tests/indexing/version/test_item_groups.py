"""Groups of items, in a version and after updates of it."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from indexing.version.item_groups import ItemGroups
from retrieval.topk import CSR, Hits


def of(names: list[object], place: list[int] | None = None) -> ItemGroups | None:
    """Those of items that name these groups; `place`: which of them each row is."""
    items = pa.table({"item_id": [str(at) for at in range(len(names))], "group_id": pa.array(names)})
    return ItemGroups.of(items, None if place is None else np.array(place))


@pytest.mark.parametrize("names", [["a", "b", "a", None], [1, 2, 1, None]])
def test_rows_of_one_name_are_variants_and_others_are_alone(names: list[object]) -> None:
    groups = of(names)
    assert groups is not None
    assert [groups.variants(row).tolist() for row in range(4)] == [[2], [], [0], []]
    assert groups.representatives.tolist() == [0, 1, 0, 3]
    assert groups.with_variants(CSR.from_lists([[2], [3], []])).rows.tolist() == [2, 0, 3]


def test_an_update_moves_items_between_groups() -> None:
    groups = of(["a", "b", "a", None, "a", "b"], place=[0, 4, 2, 3, 5])
    assert groups is not None
    assert [groups.variants(row).tolist() for row in range(5)] == [[1, 2], [0, 2], [0, 1], [], []]


def test_items_that_name_no_group_have_none() -> None:
    assert of([None, None]) is None


def test_rankings_of_groups_hold_the_best_place_of_each() -> None:
    groups = of(["a", "b", "a", None])
    assert groups is not None
    hits = Hits(np.array([[2, 1, 0, 3], [3, -1, -1, -1]]), np.array([[4, 3, 2, 1], [9, 0, 0, 0]], np.float32))
    found = groups.collapsed(hits)
    assert found.rows.tolist() == [[0, 1, 3, -1], [3, -1, -1, -1]]
    assert found.scores[0, :3].tolist() == [4, 3, 1]
