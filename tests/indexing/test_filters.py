"""Filters: what passes, and what is refused by name."""

from __future__ import annotations

import pyarrow as pa
import pytest

from indexing.filters import parse_filters
from retrieval.errors import BadRequest

ITEMS = pa.table(
    {"price": [5.0, None, 30.0, 8.0], "brand": ["a", "b", "a", None], "in_stock": [True, True, False, True]}
)


@pytest.mark.parametrize(
    ("filters", "passed"),
    [
        ([("price", "<", 20)], [0, 3]),
        ([("price", "<", 20), ("brand", "in", ["a", "c"])], [0]),
        ([[("price", ">=", 30)], [("brand", "=", "b")]], [1, 2]),
        ([("in_stock", "=", True)], [0, 1, 3]),
    ],
)
def test_rows_pass_that_meet_every_condition_of_any_list(filters: list[object], passed: list[int]) -> None:
    wanted = parse_filters(filters, ITEMS.schema)
    assert wanted.mask(ITEMS).nonzero()[0].tolist() == passed
    assert hash(wanted) == hash(parse_filters(filters, ITEMS.schema))


@pytest.mark.parametrize(
    ("filters", "named"),
    [
        ([("colour", "=", "red")], "colour"),
        ([("price", "~", 1)], "'~'"),
        ([("price",)], "filters are"),
        (3, "filters are"),
    ],
)
def test_what_cannot_be_filtered_by_is_named(filters: object, named: str) -> None:
    with pytest.raises(BadRequest, match=named):
        parse_filters(filters, ITEMS.schema)


def test_a_value_of_another_type_is_told() -> None:
    with pytest.raises(BadRequest, match="of its own type"):
        parse_filters([("price", "<", "cheap")], ITEMS.schema).mask(ITEMS)
