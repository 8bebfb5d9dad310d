"""Amounts, times, flags and categories as shops write them, each with its one right reading."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import duckdb
import pytest

from retrieval.importing.macros import MACROS


@pytest.fixture(scope="module")
def connection() -> Iterator[duckdb.DuckDBPyConnection]:
    """A database with the macros."""
    with duckdb.connect() as one:
        one.execute("SET timezone = 'UTC'")
        one.execute(MACROS)
        yield one


def value(connection: duckdb.DuckDBPyConnection, expression: str, *arguments: object) -> Any:
    """The value of an expression."""
    row = connection.execute(f"SELECT {expression}", list(arguments)).fetchone()
    assert row is not None
    return row[0]


@pytest.mark.parametrize(
    ("text", "amount"),
    [
        ("12.99 USD", 12.99),
        ("USD 12.99", 12.99),
        ("1.299,00 €", 1299.0),
        ("1,299.00", 1299.0),
        ("1 299,00", 1299.0),
        ("1\u00a0299,5", 1299.5),
        ("1'299.00", 1299.0),
        ("1.299.000", 1299000.0),
        ("Rs.499", 499.0),
        ("Rs. 499.50", 499.5),
        ("-$5.00", -5.0),
        ("$-5", -5.0),
        ("0,5", 0.5),
        ("0.125", 0.125),
        (".99", 0.99),
        ("1e3", 1000.0),
        ("free", None),
        ("", None),
    ],
)
@pytest.mark.parametrize("decimal_comma", [False, True])
def test_an_amount_is_read_whatever_its_signs(
    connection: duckdb.DuckDBPyConnection, text: str, amount: float | None, decimal_comma: bool
) -> None:
    assert value(connection, "read_number(?, ?)", text, decimal_comma) == amount


@pytest.mark.parametrize(("text", "point", "comma"), [("1,299", 1299.0, 1.299), ("1.299", 1.299, 1299.0)])
def test_a_value_that_may_be_two_is_read_as_its_column(
    connection: duckdb.DuckDBPyConnection, text: str, point: float, comma: float
) -> None:
    assert value(connection, "read_number(?, false)", text) == point
    assert value(connection, "read_number(?, true)", text) == comma


@pytest.mark.parametrize(
    ("text", "time"),
    [
        ("1700000000", "2023-11-14 22:13:20"),
        ("1700000000.5", "2023-11-14 22:13:20.5"),
        ("1700000000123", "2023-11-14 22:13:20.123"),
        ("1700000000123456", "2023-11-14 22:13:20.123456"),
        ("1700000000123456789", "2023-11-14 22:13:20.123456"),
        ("964982703", "2000-07-30 18:45:03"),
        ("2024-01-05 10:12:33 -0500", "2024-01-05 15:12:33"),
        ("2024-01-05T10:12:33+0200", "2024-01-05 08:12:33"),
        ("2024-01-05T10:12:33.25Z", "2024-01-05 10:12:33.25"),
        ("2024-01-05 10:12:33 UTC", "2024-01-05 10:12:33"),
        ("2024-01-05", "2024-01-05 00:00:00"),
        ("20240105", "2024-01-05 00:00:00"),
        ("202401051012", "2024-01-05 10:12:00"),
        ("20240105101233", "2024-01-05 10:12:33"),
        ("2024/1/5 9:05", "2024-01-05 09:05:00"),
        ("2024年1月5日 10:00", "2024-01-05 10:00:00"),
        ("05.03.2024 13:05", "2024-03-05 13:05:00"),
        ("5.3.24", "2024-03-05 00:00:00"),
        ("Mar 5, 2024, 10:11:12 PM", "2024-03-05 22:11:12"),
        ("5 March 2024", "2024-03-05 00:00:00"),
        ("Tue, 05 Mar 2024 10:11:12 GMT", "2024-03-05 10:11:12"),
        ("soon", None),
        ("12", None),
    ],
)
def test_a_time_is_read_as_utc(connection: duckdb.DuckDBPyConnection, text: str, time: str | None) -> None:
    assert value(connection, "CAST(read_time(?, false) AS VARCHAR)", text) == time


def test_day_and_month_go_by_the_column(connection: duckdb.DuckDBPyConnection) -> None:
    assert value(connection, "CAST(read_time('3/4/24 5:04 PM', false) AS VARCHAR)") == "2024-03-04 17:04:00"
    assert value(connection, "CAST(read_time('3/4/24 5:04 PM', true) AS VARCHAR)") == "2024-04-03 17:04:00"


@pytest.mark.parametrize(
    ("text", "flag"),
    [
        ("in stock", True),
        ("Out of stock", False),
        ("TRUE", True),
        ("12", True),
        ("0.00", False),
        ("nein", False),
        ("?", None),
    ],
)
def test_a_flag_is_a_word_or_an_amount(connection: duckdb.DuckDBPyConnection, text: str, flag: bool | None) -> None:
    assert value(connection, "read_flag(?)", text) is flag


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("Food, Beverages > Tea", ["Food, Beverages", "Tea"]),
        ("Drama|Comedy", ["Drama", "Comedy"]),
        ('["A","B"]', ["A", "B"]),
        ("Mugs", ["Mugs"]),
        (" > ", None),
    ],
)
def test_a_category_is_a_path_or_a_set(
    connection: duckdb.DuckDBPyConnection, text: str, path: list[str] | None
) -> None:
    assert value(connection, "read_path(?)", text) == path


@pytest.mark.parametrize(
    ("text", "cell"),
    [
        ("'0123", "0123"),
        ("'+4912", "+4912"),
        ("'47 Brand cap", "'47 Brand cap"),
        ('="0012"', "0012"),
        (" x\u00a0", "x"),
        (" ", None),
    ],
)
def test_a_cell_loses_what_spreadsheets_add(connection: duckdb.DuckDBPyConnection, text: str, cell: str | None) -> None:
    assert value(connection, "cell(?)", text) == cell
