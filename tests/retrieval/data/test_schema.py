"""Structural faults of a data set's files end in one line; every honest spelling of a type is accepted."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from retrieval.data.schema import CONTRACT, EVENTS, ITEMS, Holds, holds, open_source, plain
from retrieval.errors import BadData


def written(folder: Path, name: str = ITEMS, /, **columns: object) -> Path:
    pq.write_table(pa.table(columns), folder / name)
    return folder


def refusal(folder: Path, name: str = ITEMS) -> str:
    with pytest.raises(BadData) as caught:
        for _ in open_source(folder, name).batches(tuple(c.name for c in CONTRACT[name] if c.required)):
            pass
    line = str(caught.value)
    assert "\n" not in line
    assert str(folder / name) in line
    return line


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    assert "does not exist" in refusal(tmp_path)


def test_a_file_of_no_bytes_is_empty(tmp_path: Path) -> None:
    (tmp_path / ITEMS).touch()
    assert "is empty" in refusal(tmp_path)


def test_a_file_of_no_rows_is_empty(tmp_path: Path) -> None:
    written(tmp_path, item_id=pa.array([], pa.string()), title=pa.array([], pa.string()))
    assert "holds no rows" in refusal(tmp_path)


def test_a_file_that_is_not_parquet_is_told_by_its_start(tmp_path: Path) -> None:
    (tmp_path / ITEMS).write_text("item_id,title\n1,Mug\n")
    assert "not a parquet file" in refusal(tmp_path)


@pytest.mark.parametrize("left", [10, 200, -1])
def test_a_truncated_file_is_cut_short(tmp_path: Path, left: int) -> None:
    path = written(tmp_path, item_id=["1"], title=["Mug"]) / ITEMS
    path.write_bytes(path.read_bytes()[:left])
    assert "truncated" in refusal(tmp_path)


def test_a_damaged_footer_is_not_readable(tmp_path: Path) -> None:
    path = written(tmp_path, item_id=["1"], title=["Mug"]) / ITEMS
    content = path.read_bytes()
    path.write_bytes(content[:-8] + b"\xff\xff\xff\x7f" + content[-4:])
    assert "not readable as parquet" in refusal(tmp_path)


def test_a_damaged_page_names_the_row_that_was_reached(tmp_path: Path) -> None:
    path = written(tmp_path, item_id=[str(i) for i in range(1000)], title=[f"Mug {i}" for i in range(1000)]) / ITEMS
    content = bytearray(path.read_bytes())
    content[4:400] = bytes(396)
    path.write_bytes(content)
    assert "cannot be read from row 0" in refusal(tmp_path)


def test_a_folder_in_the_place_of_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / ITEMS).mkdir()
    assert "is a folder" in refusal(tmp_path)


def test_a_missing_column_is_named_beside_those_that_are_there(tmp_path: Path) -> None:
    line = refusal(written(tmp_path, item_id=["1"], label=["Mug"]))
    assert "no column title" in line
    assert "item_id, label" in line


def test_a_column_of_a_control_character_cannot_break_the_line(tmp_path: Path) -> None:
    line = refusal(written(tmp_path, ITEMS, item_id=["1"], **{"a\nb\x1b[2J": ["Mug"]}))
    assert "\x1b" not in line


def test_a_repeated_column_is_refused(tmp_path: Path) -> None:
    columns = [pa.array(["1"]), pa.array(["Mug"]), pa.array(["Cup"])]
    pq.write_table(pa.Table.from_arrays(columns, names=["item_id", "title", "title"]), tmp_path / ITEMS)
    assert "title occurs 2 times" in refusal(tmp_path)


@pytest.mark.parametrize(
    ("name", "column", "value", "wanted"),
    [
        (ITEMS, "item_id", 1.0, "string or integer"),
        (ITEMS, "item_id", True, "string or integer"),
        (ITEMS, "title", 7, "string"),
        (ITEMS, "category", 3, "list<string>"),
        (ITEMS, "category", [3], "list<string>"),
        (ITEMS, "price", "12.50", "double"),
        (ITEMS, "in_stock", 1, "bool"),
        (ITEMS, "image", b"png", "string"),
        (EVENTS, "timestamp", "2024-01-01", "timestamp"),
        (EVENTS, "timestamp", 1_700_000_000, "timestamp"),
        (EVENTS, "quantity", "two", "double"),
        (EVENTS, "basket_id", 2.0, "string or integer"),
        (EVENTS, "event", 1, "string"),
    ],
)
def test_a_wrong_type_names_column_found_and_wanted(
    tmp_path: Path, name: str, column: str, value: object, wanted: str
) -> None:
    good: dict[str, list[object]] = {"item_id": ["1"], "title": ["Mug"]}
    if name == EVENTS:
        good = {"user_id": ["u"], "item_id": ["1"], "event": ["view"], "timestamp": [datetime(2024, 1, 1, tzinfo=UTC)]}
    written(tmp_path, name, **{**good, column: [value]})
    line = refusal(tmp_path, name)
    found = str(pa.array([value]).type).replace("item:", "element:")
    assert f"column {column} is {found}, wanted" in line
    assert wanted in line


def test_integer_times_are_refused_with_the_cast_that_mends_them(tmp_path: Path) -> None:
    written(tmp_path, EVENTS, user_id=["u"], item_id=["1"], event=["view"], timestamp=[1_700_000_000])
    assert "pa.timestamp('s')" in refusal(tmp_path, EVENTS)


@pytest.mark.parametrize(
    ("column", "value", "mended"),
    [
        ("category", [["Home", "Mugs"]], [" > ".join(path) for path in [["Home", "Mugs"]]]),
        ("category", [3], ["3"]),
        ("title", ["Red", "mug"], "Red mug"),
        ("in_stock", "in stock", True),
        ("brand", {"name": "Acme"}, "Acme"),
    ],
)
def test_advice_about_a_column_of_another_kind_can_be_followed(
    tmp_path: Path, column: str, value: object, mended: object
) -> None:
    good: dict[str, list[object]] = {"item_id": ["1"], "title": ["Mug"]}
    line = refusal(written(tmp_path, **{**good, column: [value]}))
    advice = {
        "category": "as one text",
        "title": "joined by blanks",
        "in_stock": "in stock",
        "brand": "one of its fields",
    }
    assert advice[column] in line
    assert "cast" not in line
    assert column in open_source(written(tmp_path, **{**good, column: [mended]}), ITEMS).columns


def test_row_numbers_of_pandas_are_no_attribute(tmp_path: Path) -> None:
    columns = {"item_id": ["1"], "title": ["Mug"], "Unnamed: 0": [0], "__index_level_0__": [7], "colour": ["red"]}
    assert open_source(written(tmp_path, **columns), ITEMS).extra == ("colour",)


def test_a_column_of_nulls_counts_as_a_missing_optional_one(tmp_path: Path) -> None:
    source = open_source(written(tmp_path, item_id=["1"], title=["Mug"], brand=pa.nulls(1), price=[1.0]), ITEMS)
    assert source.columns == ("item_id", "title", "price")
    assert "brand" in source.missing


def test_a_column_of_nulls_is_no_required_column(tmp_path: Path) -> None:
    assert "column title is null, wanted string; it holds nothing but nulls" in refusal(
        written(tmp_path, item_id=["1"], title=pa.nulls(1))
    )


def test_further_columns_are_listed(tmp_path: Path) -> None:
    assert open_source(written(tmp_path, item_id=["1"], title=["Mug"], colour=["red"]), ITEMS).extra == ("colour",)


@pytest.mark.parametrize(
    "kind", [pa.string(), pa.large_string(), pa.string_view(), pa.dictionary(pa.int8(), pa.string())]
)
def test_every_spelling_of_text_becomes_string(kind: pa.DataType) -> None:
    assert holds(kind, Holds.ID)
    assert holds(kind, Holds.TEXT)
    assert plain(pa.array(["a", None]).cast(kind)).equals(pa.array(["a", None]))


@pytest.mark.parametrize(
    "kind",
    [
        pa.list_(pa.string()),
        pa.large_list(pa.large_string()),
        pa.list_(pa.string(), 2),
        pa.list_view(pa.string()),
        pa.list_(pa.string_view()),
    ],
)
def test_every_layout_of_lists_becomes_the_same_list(kind: pa.DataType) -> None:
    values = [["a", "b"], None, ["c", None]]
    assert holds(kind, Holds.TEXTS)
    assert plain(pa.array(values, kind)).equals(pa.array(values, pa.list_(pa.string())))


def test_a_sliced_list_keeps_its_own_rows() -> None:
    values = pa.array([["a"], None, ["b", "c"], []], pa.large_list(pa.string()))
    assert plain(values.slice(1, 2)).to_pylist() == [None, ["b", "c"]]
