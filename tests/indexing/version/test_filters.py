"""Filters: what passes, and what is refused by name."""

from __future__ import annotations

import operator
from collections.abc import Callable
from datetime import UTC, date, datetime

import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from indexing.version.filters import parse_filters
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
        ("price < 20 and brand in (a, c)", [0]),
        ("price >= 30 or brand = b", [1, 2]),
        ([("brand", "in", [])], []),
        ("brand in []", []),
        ([("brand", "not in", [])], [0, 1, 2]),
        ("brand in () or price >= 30", [2]),
        ([("price", "<", 10**400)], [0, 2, 3]),
        ([("price", ">", -(10**400))], [0, 2, 3]),
        (f"price = {10**400}", []),
        ('[[["price", ">=", 30]], [["brand", "=", "b"]]]', [1, 2]),
    ],
)
def test_rows_pass_that_meet_every_condition_of_any_list(filters: object, passed: list[int]) -> None:
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
        ([[]], "filters are"),
        ([], "filters are"),
        (["abc"], "filters are"),
        ([("price", "<", {"a": 1})], "filters are"),
        ("colour = red", "no column colour; they have: price, brand, in_stock"),
        ("price <", "at character 8"),
        ('[["price"', "is no JSON"),
        ('["price"]', "filters are"),
    ],
)
def test_what_cannot_be_filtered_by_is_named(filters: object, named: str) -> None:
    with pytest.raises(BadRequest, match=named):
        parse_filters(filters, ITEMS.schema)


def test_a_value_of_another_type_is_told() -> None:
    with pytest.raises(
        BadRequest, match=r'^filters: price < "cheap": price is of type double .*; compare it with values'
    ):
        parse_filters([("in_stock", "=", True), ("price", "<", "cheap")], ITEMS.schema).mask(ITEMS)


NUMBERS = st.none() | st.integers(0, 4)
VALUES = st.tuples(st.sampled_from(["=", "!=", "<", "<=", ">", ">="]), st.integers(0, 4)) | st.tuples(
    st.sampled_from(["in", "not in"]), st.lists(st.integers(0, 4), min_size=1, max_size=3)
)
CONDITIONS = st.tuples(st.sampled_from(["one", "other"]), VALUES).map(lambda pair: (pair[0], *pair[1]))


@settings(max_examples=150, deadline=None)
@given(
    rows=st.lists(st.tuples(NUMBERS, NUMBERS), min_size=1, max_size=12),
    filters=st.lists(st.lists(CONDITIONS, min_size=1, max_size=3), min_size=1, max_size=3),
)
def test_plain_columns_pass_as_in_a_data_set_of_pyarrow(
    rows: list[tuple[int | None, int | None]], filters: list[list[tuple[str, str, object]]]
) -> None:
    one, other = zip(*rows, strict=True)
    columns = {"one": pa.array(one, pa.int64()), "other": pa.array(other, pa.int64())}
    items = pa.table({"row": range(len(rows)), **columns})
    wanted = ds.dataset(items).to_table(filter=pq.filters_to_expression(filters))["row"].to_pylist()
    assert parse_filters(filters, items.schema).mask(items).nonzero()[0].tolist() == wanted


@pytest.mark.parametrize(
    ("operator_", "value", "meets"),
    [
        ("=", "b", lambda found: "b" in found),
        ("in", ["b", "c"], lambda found: bool({"b", "c"} & set(found))),
        (">", "a", lambda found: any(operator.gt(value, "a") for value in found)),
        ("!=", "b", lambda found: "b" not in found),
        ("not in", ["b", "c"], lambda found: not {"b", "c"} & set(found)),
    ],
)
@pytest.mark.parametrize("chunks", [1, 3])
def test_a_list_passes_by_one_of_its_values_and_a_negation_by_all(
    operator_: str, value: object, meets: Callable[[list[str]], bool], chunks: int
) -> None:
    lists = [["a", "b"], [], None, ["c"], ["a"], ["b", "b"]]
    column = pa.chunked_array([pa.array(lists, pa.list_(pa.string()))] * chunks)
    items = pa.table({"category": column})
    passed = parse_filters([("category", operator_, value)], items.schema).mask(items)
    assert passed.tolist() == [one is not None and meets(one) for one in lists] * chunks


def test_whole_numbers_beyond_64_bits_are_compared_with_whole_numbers() -> None:
    items = pa.table({"stock": [1, 2]})
    assert parse_filters([("stock", "<", 2**64)], items.schema).mask(items).tolist() == [True, True]
    assert parse_filters([("stock", "in", [2, -(10**400)])], items.schema).mask(items).tolist() == [False, True]


def test_no_value_of_lists_passes_none_of_them() -> None:
    items = pa.table({"category": [["a"], [], None]})
    assert parse_filters("category in []", items.schema).mask(items).tolist() == [False, False, False]
    assert parse_filters("category not in []", items.schema).mask(items).tolist() == [True, True, False]


@pytest.mark.parametrize("value", [10**400, 2**64, "x", b"x", 1j, [[1]], {"a": 1}, float("nan"), object()])
def test_whatever_a_value_is_there_is_a_mask_or_one_line(value: object) -> None:
    for column in ITEMS.column_names:
        for sign in ("=", "<", "in", "not in"):
            told = ""
            try:
                parse_filters([(column, sign, value)], ITEMS.schema).mask(ITEMS)
            except BadRequest as error:
                told = str(error)
            assert "\n" not in told


def test_times_are_compared_with_times() -> None:
    times = pa.array([datetime(2026, 1, day, tzinfo=UTC) for day in (1, 5, 9)], pa.timestamp("us", "UTC"))
    items = pa.table({"since": times})
    for filters in (
        [("since", ">=", datetime(2026, 1, 5, tzinfo=UTC))],
        "since >= 2026-01-05",
        'since >= "2026-01-05T02:00:00+02:00"',
        "since in (2026-01-05, 2026-01-09)",
    ):
        assert parse_filters(filters, items.schema).mask(items).tolist() == [False, True, True]


def test_days_are_compared_with_days_however_they_are_written() -> None:
    items = pa.table({"since": pa.array([date(2026, 1, day) for day in (1, 5, 9)])})
    assert parse_filters("since < 2026-01-05", items.schema).mask(items).tolist() == [True, False, False]
    with pytest.raises(BadRequest, match=r"since is of type date32"):
        parse_filters("since < soon", items.schema).mask(items)
