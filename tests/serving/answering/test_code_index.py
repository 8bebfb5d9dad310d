"""Items are found by their codes as people type them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pyarrow as pa
import pytest

from retrieval.sources.exact import ExactMatch
from retrieval.sources.protocols import RequestBatch
from retrieval.sources.registry import CodeLookups
from serving.answering.code_index import MOST_ITEMS, CodeIndex

Search = Callable[[str], list[int]]


def search_over(**columns: object) -> Search:
    """Best first, the rows that the exact source finds."""
    n = len(next(iter(columns.values())))  # type: ignore[arg-type]
    items = pa.table({"item_id": [f"item-{row}" for row in range(n)], **columns})
    index = CodeIndex.of(items, np.arange(n))
    source = ExactMatch(CodeLookups([index.texts.find], [index.keys.find]))

    def search(query: str) -> list[int]:
        rows = source.read(RequestBatch.of_texts([query])).top(n).rows[0]
        return rows[rows >= 0].tolist()

    return search


@pytest.fixture(scope="module")
def search() -> Search:
    return search_over(
        mpn=["KX-0011-A", "KX-0011-B", "KX-0012-B", None, "AB-12C", "AB12-C", "4711", "Q7"],
        gtin=pa.array([36000291452, None, 4006381333931, 40123455, None, None, None, None], pa.float64()),
        barcode=["00012345600012", "", "", "", "'9780198526636", "978-3-16-148410-0", "8901234567890.0", "00000000"],
    )


@pytest.mark.parametrize(
    "query",
    [
        "KX-0011-B", "kx-0011-b", "KX0011B", "KX 0011 B", "SKU: KX-0011-B", "#KX-0011-B.", "price of KX-0011-B",
        "KX-0011-B blue", "kx_0011_b", "“kx 0011-b”", "mpn=KX0011B", "do you have kx 0011 b?", "ＫＸ－００１１－Ｂ",
    ],
)  # fmt: skip
def test_a_code_is_found_however_it_is_typed(search: Search, query: str) -> None:
    assert search(query) == [1]


@pytest.mark.parametrize(
    ("query", "row"),
    [
        ("36000291452", 0), ("036000291452", 0), ("0036000291452", 0), ("00036000291452", 0), ("0-36000-29145-2", 0),
        ("UPC 036000291452", 0), ("12345600012", 0), ("12345600012 tissues", 0), ("04006381333931", 2),
        ("00000040123455", 3), ("978-0-19-852663-6", 4), ("9783161484100", 5), ("ISBN 9783161484100", 5),
        ("8901234567890", 6),
    ],
)  # fmt: skip
def test_a_barcode_is_found_with_and_without_zeros(search: Search, query: str, row: int) -> None:
    assert search(query) == [row]


def test_equal_letters_come_before_equal_keys(search: Search) -> None:
    assert search("AB-12C") == [4, 5]
    assert search("AB12-C") == [5, 4]
    assert search("buy AB12-C") == [5, 4]
    assert search("ab12c") == [4, 5]


@pytest.mark.parametrize(
    ("query", "rows"), [("#4711", [6]), ("sku 4711", [6]), ("red mug 4711", []), ("q7", []), ("Q7", [7]), ("0000", [])]
)
def test_short_codes_and_plain_numbers_have_to_be_the_whole_query(search: Search, query: str, rows: list[int]) -> None:
    assert search(query) == rows


def test_several_codes_of_one_query_are_found_and_ids_too(search: Search) -> None:
    assert search("KX-0011-B or KX-0012-B") == [1, 2]
    assert search("ITEM-3") == search("item3") == [3]
    assert search("where is item-3 now") == [3]


def test_an_item_may_have_several_codes_and_items_may_share_one() -> None:
    search = search_over(
        barcodes=pa.array([["40123455", "036000291452"], None, []], pa.list_(pa.string())), sku=["A-100", "A-100", None]
    )
    assert search("36000291452") == search("40123455") == [0]
    assert search("a100") == [0, 1]


def test_a_placeholder_is_no_code() -> None:
    search = search_over(sku=["XX-9999"] * (MOST_ITEMS + 1) + ["XX-9998"])
    assert search("XX-9999") == search("xx9999") == []
    assert search("xx9998") == [MOST_ITEMS + 1]


def test_columns_of_other_kinds_and_names_are_left_alone() -> None:
    search = search_over(
        mpn=pa.array([1.5, float("nan"), None, 1e300, 40123455.0]), sku=[True] * 5, model=["KX-0011-B"] * 5
    )
    assert search("KX-0011-B") == search("1.5") == []
    assert search("40123455") == [4]


def test_a_shop_without_codes_or_items_finds_nothing() -> None:
    assert search_over(title=["red mug"])("KX-0011-B") == []
    empty = CodeIndex.of(pa.table({"item_id": pa.array([], pa.string())}), np.arange(0))
    assert len(empty.keys.find(["kx0011b"]).rows) == 0
