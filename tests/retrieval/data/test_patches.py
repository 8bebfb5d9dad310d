"""Patches of items, and files that list item ids."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from retrieval.data.audit import FileAudit
from retrieval.data.items import item_ids_of_lines
from retrieval.data.patches import open_patch, patched, read_patch
from retrieval.data.rejected import RejectedRows
from retrieval.errors import BadData

BEFORE = pa.table(
    {
        "item_id": ["001", "2", "3"],
        "title": ["Mug", "Lamp", "Saw"],
        "price": [1.0, None, 3.0],
        "in_stock": [True, None, False],
        "category": [["Home"], None, ["Tools", "Saws"]],
        "colour": ["red", "blue", None],
    }
)


def read(path: Path) -> pa.Table:
    with RejectedRows(path.parent / "rejected.parquet") as aside:
        source = open_patch(path, BEFORE.schema)
        return read_patch(FileAudit(source=source, max_bad=1.0, max_unknown=0.0, rejected=aside))


def applied(path: Path) -> list[dict[str, object]]:
    """The items of the patch, in its order, after it."""
    patch = read(path)
    rows = [BEFORE["item_id"].to_pylist().index(item) for item in patch["item_id"].to_pylist()]
    return patched(patch, BEFORE.take(rows), str(path)).to_pylist()


def csv(folder: Path, text: str) -> Path:
    path = folder / "patch.csv"
    path.write_text(text, "utf-8")
    return path


@pytest.mark.parametrize(
    "text",
    [
        "item_id,price,in_stock\n3,4.5,yes\n001,,false\n",
        "\ufeffprice;item_id;in_stock\n4.5;3;1\n;001;0\n",
        '"item_id","price","in_stock"\n"3","4.5","True"\n"001","","False"\n',
    ],
)
def test_a_csv_changes_its_columns_alone_and_an_empty_cell_changes_nothing(tmp_path: Path, text: str) -> None:
    saw, mug = applied(csv(tmp_path, text))
    assert saw == BEFORE.to_pylist()[2] | {"price": 4.5, "in_stock": True}
    assert mug == BEFORE.to_pylist()[0] | {"in_stock": False}


def test_parquet_changes_lists_and_further_columns_too(tmp_path: Path) -> None:
    path = tmp_path / "patch.parquet"
    pq.write_table(pa.table({"item_id": [3, 2], "category": [["Garden"], None], "colour": ["grey", None]}), path)
    saw, lamp = applied(path)
    assert saw == BEFORE.to_pylist()[2] | {"category": ["Garden"], "colour": "grey"}
    assert lamp == BEFORE.to_pylist()[1]


def test_bad_rows_change_nothing_and_of_an_id_the_last_counts(tmp_path: Path) -> None:
    patch = read(csv(tmp_path, "item_id,price,title\n2,-1,x\n,5,x\n3,1,A\n3,2,\n001,inf,x\n"))
    assert patch.to_pylist() == [{"item_id": "3", "title": None, "price": 2.0}]


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("item_id,colr\n1,red\n", "no column colr"),
        ("sku,price\n1,2\n", "no column item_id"),
        ("item_id\n1\n", "no column beside item_id"),
        ("item_id,price\n1,cheap\n", "price"),
        ("item_id,category\n1,Home\n", "give it as parquet"),
        ("item_id,price\n", "no rows"),
        ("", "cannot be read as CSV"),
    ],
)
def test_a_file_that_is_no_patch_is_refused_in_one_line(tmp_path: Path, text: str, named: str) -> None:
    with pytest.raises(BadData) as refused:
        read(csv(tmp_path, text))
    assert named in str(refused.value) or "cheap" in str(refused.value)
    assert str(refused.value).startswith(str(tmp_path / "patch.csv"))
    assert "\n" not in str(refused.value)


def test_a_column_of_another_type_is_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "patch.parquet"
    pq.write_table(pa.table({"item_id": ["3"], "colour": pa.array([[1]])}), path)
    with pytest.raises(BadData, match="column colour is"):
        applied(path)


@pytest.mark.parametrize(
    ("text", "ids"),
    [
        ('"a,1"\n"b ""x"""\nc\n', ["a,1", 'b "x"', "c"]),
        ('"item_id"\n"a,1"\nb\n', ["a,1", "b"]),
        ('title,item_id\n"Mug, red",7\nLamp,"8"\n', ["7", "8"]),
        ("item_id;title\n7;Mug\n", ["7"]),
        ("a,1\nb;2\n a \n\n", ["a,1", "b;2", "a"]),
        ('5" pipe\n6"\n', ['5" pipe', '6"']),
    ],
)
def test_ids_are_read_from_lines_and_from_quoted_csv(tmp_path: Path, text: str, ids: list[str]) -> None:
    path = tmp_path / "gone.csv"
    path.write_text(text, "utf-8")
    assert item_ids_of_lines(path) == ids
