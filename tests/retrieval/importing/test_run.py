"""An import as a whole: what is recognised, what is refused, what is kept of bad lines, and what is overwritten."""

from __future__ import annotations

import gzip
import json
import zipfile
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from import_exports import EXPORTS, one_table, rows_of
from retrieval.errors import BadConfig, BadData, MissingDependency
from retrieval.importing.run import import_data

PRODUCTS = EXPORTS / "shopify/products_export.csv"
ORDERS = EXPORTS / "shopify/orders_export.csv"
HEADER = "sku;name;price;weight;gtin"


def written(path: Path, text: str, encoding: str = "utf-8") -> Path:
    """A file of text."""
    path.write_bytes(text.encode(encoding))
    return path


def items(tmp_path: Path, source: Path, mapping: str = "item_id=sku,title=name", **options: object) -> list[dict]:
    """The items of a source that a mapping reads."""
    import_data([source], tmp_path / "out", mapping=mapping, **options)
    return rows_of(tmp_path / "out", "items")


def test_a_zip_and_a_gz_are_read_as_the_files_in_them(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "export.zip", "w") as archive:
        archive.write(PRODUCTS, "shop/products_export.csv")
        archive.writestr("__MACOSX/._products_export.csv", "junk")
        archive.writestr("shop/photo.png", b"\x89PNG\x00\x00")
    (tmp_path / "orders.csv.gz").write_bytes(gzip.compress(ORDERS.read_bytes()))
    report = import_data([tmp_path / "export.zip", tmp_path / "orders.csv.gz"], tmp_path / "out")
    plain = import_data([PRODUCTS, ORDERS], tmp_path / "plain")
    assert [table.rows for table in report.tables] == [table.rows for table in plain.tables]
    assert rows_of(tmp_path / "out", "events") == rows_of(tmp_path / "plain", "events")
    assert report.unread == {f"{tmp_path}/export.zip/shop/photo.png": "is no table"}


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "cp1252", "utf-16", "utf-16-le"])
@pytest.mark.parametrize("delimiter", [";", ",", "\t"])
def test_files_of_spreadsheets_are_read_in_their_encoding(tmp_path: Path, encoding: str, delimiter: str) -> None:
    text = 'sku;name;price\r\n\'0012;"Größe ""M"",\r\nblau";"1.299,50"\r\n\r\n0013;Café;2,5\r\n'.replace(";", delimiter)
    if delimiter == ",":
        text = text.replace("2,5", '"2,5"')
    source = written(tmp_path / "items.csv", text, encoding)
    assert items(tmp_path, source) == [
        {"item_id": "0012", "title": 'Größe "M",\r\nblau', "price": 1299.5},
        {"item_id": "0013", "title": "Café", "price": 2.5},
    ]


def test_an_encoding_that_cannot_be_found_out_is_named(tmp_path: Path) -> None:
    source = written(tmp_path / "items.csv", "sku,name\n1,红色连衣裙\n", "gb18030")
    assert items(tmp_path, source, encoding="gb18030") == [{"item_id": "1", "title": "红色连衣裙"}]
    with pytest.raises(BadConfig, match="--encoding klingon: no such encoding"):
        import_data([source], tmp_path / "out2", mapping="item_id=sku,title=name", encoding="klingon")


def test_further_columns_are_attributes_in_types_of_their_own(tmp_path: Path) -> None:
    source = written(tmp_path / "i.csv", f"{HEADER}\n1;Mug;7,5;300;0400638\n2;Jug;12;12.5;\n")
    assert items(tmp_path, source) == [
        {"item_id": "1", "title": "Mug", "price": 7.5, "weight": 300.0, "gtin": "0400638"},
        {"item_id": "2", "title": "Jug", "price": 12.0, "weight": 12.5},
    ]


def test_lines_and_values_that_cannot_be_read_are_set_aside_and_counted(tmp_path: Path) -> None:
    source = written(tmp_path / "i.csv", "sku,name,price\n1,Mug,7.5\n2,Jug,much\n3,A,4,5,6\n,Nameless,1\n5,\n")
    report = import_data([source], tmp_path / "out", mapping="item_id=sku,title=name")
    table = one_table(report, "items")
    assert [str(one) for one in table.rejected] == [
        "1 x item_id empty (first: null)",
        "1 x title empty (first: null)",
        f"1 x line of {source} with more columns than its header (first: line 4)",
    ]
    assert [str(one) for one in table.lost] == ["1 x price that cannot be read (first: 'much')"]
    assert [row["item_id"] for row in rows_of(tmp_path / "out", "items")] == ["1", "2"]
    aside = pq.read_table(tmp_path / "out/rejected.parquet").to_pylist()
    assert [(row["rule"], row["action"]) for row in aside] == [
        ("item_id empty", "row set aside"),
        ("title empty", "row set aside"),
        ("price that cannot be read", "value left out"),
        (f"line of {source} with more columns than its header", "row set aside"),
    ]
    assert json.loads(aside[0]["record"])["title"] == "Nameless"
    assert aside[3]["record"] == "3,A,4,5,6"


def test_json_is_read_by_line_or_as_a_list_and_bad_lines_are_set_aside(tmp_path: Path) -> None:
    lines = written(tmp_path / "a.jsonl", '{"id": 7, "n": "Mug", "c": ["A", "B"]}\n{"id": 8,\n{"id": 9, "n": "Jug"}\n')
    expected = [{"item_id": "7", "title": "Mug", "category": ["A", "B"]}, {"item_id": "9", "title": "Jug"}]
    mapping = "item_id=id,title=n,category=c"
    assert items(tmp_path, lines, mapping) == expected
    aside = pq.read_table(tmp_path / "out/rejected.parquet").to_pylist()
    assert [(row["file"], row["row"], row["record"]) for row in aside] == [("items.parquet", 2, '{"id": 8,')]
    whole = written(tmp_path / "b.json", '[{"id": 7, "n": "Mug", "c": ["A", "B"]},\n {"id": 9, "n": "Jug"}]')
    assert items(tmp_path, whole, mapping, overwrite=True) == expected
    assert not (tmp_path / "out/rejected.parquet").exists()


def test_nothing_is_overwritten_without_being_told(tmp_path: Path) -> None:
    import_data([PRODUCTS], tmp_path)
    before = (tmp_path / "items.parquet").read_bytes()
    with pytest.raises(BadData, match=r"already has items.parquet; name another --out, or add --overwrite"):
        import_data([PRODUCTS], tmp_path)
    assert (tmp_path / "items.parquet").read_bytes() == before
    import_data([ORDERS], tmp_path)
    assert (tmp_path / "items.parquet").read_bytes() == before
    import_data([PRODUCTS], tmp_path, overwrite=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["events.parquet", "items.parquet"]


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        (
            {},
            BadData,
            r"no reader knows these files \(.*sku, name.*--map item_id=sku,title=name; or name a source",
        ),
        ({"reader": "shopify"}, BadData, "--from shopify: cannot read any of the files .*Handle, Title, Vendor"),
        ({"mapping": "item_id"}, BadConfig, "is no NAME=COLUMN"),
        ({"mapping": "item_id=sku,item_id=name"}, BadConfig, "names item_id twice"),
        ({"mapping": "item_id=id,title=name"}, BadConfig, "--map item_id=id: no file has that column .*sku, name"),
        ({"mapping": "item_id=sku"}, BadConfig, "makes no table of item_id; .*items: item_id, title"),
        ({"mapping": "item_id=sku", "table": "items"}, BadData, "items: without title; .*add title=COLUMN to --map"),
        ({"query": "SELECT nothing FROM i"}, BadData, "nothing"),
        ({"query": "SELECT sku AS item_id FROM i"}, BadConfig, "--query makes no table of item_id"),
        ({"table": "items"}, BadConfig, "goes with --map or --query"),
        ({"mapping": "item_id=sku", "query": "FROM i"}, BadConfig, "exclude each other"),
        ({"mapping": "item_id=sku,title=name,query_id=name,grade=sku"}, BadConfig, "add --table"),
    ],
)
def test_what_cannot_be_read_is_one_line_with_a_remedy(
    tmp_path: Path, options: dict[str, str], error: type[Exception], message: str
) -> None:
    source = written(tmp_path / "i.csv", "sku,name\n1,Mug\n")
    with pytest.raises(error, match=message):
        import_data([source], tmp_path / "out", **options)
    assert not (tmp_path / "out").exists()


LEVELS = "".join(f'<!ENTITY e{n + 1} "{f"&e{n};" * 10}">' for n in range(9))
ENTITIES = f'<!DOCTYPE rss [<!ENTITY e0 "lol">{LEVELS}]><rss><item>&e9;</item></rss>'  # a few hundred bytes, 3 GB read


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "is empty"),
        ("PAR1 and no more", "is damaged parquet"),
        ("<rss><item>", "is broken XML"),
        (ENTITIES, "is broken XML"),
        (None, "does not exist"),
    ],
)
def test_a_damaged_file_is_one_line(tmp_path: Path, content: str | None, message: str) -> None:
    source = tmp_path / "feed.xml"
    if content is not None:
        source.write_text(content)
    with pytest.raises(BadData, match=message):
        import_data([source], tmp_path / "out")


def test_a_workbook_is_told_from_an_archive(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "items.xlsx", "w") as archive:
        archive.writestr("[Content_Types].xml", "<Types/>")
        archive.writestr("xl/worksheets/sheet1.xml", "<worksheet/>")
    with pytest.raises(BadData, match=r"items\.xlsx: is a workbook; save each of its sheets as CSV"):
        import_data([tmp_path / "items.xlsx"], tmp_path / "out")


def test_a_column_whose_name_has_a_comma_is_mapped_in_quotation_marks(tmp_path: Path) -> None:
    source = written(tmp_path / "rows.csv", 'sku,"Name, long"\n1,Mug\n')
    assert items(tmp_path, source, 'item_id=sku,"title=Name, long"') == [{"item_id": "1", "title": "Mug"}]


def test_the_line_for_excel_alone_names_the_delimiter(tmp_path: Path) -> None:
    source = written(tmp_path / "rows.csv", "sep=|\r\nsku|name\r\n1|A, B; C\r\n", "utf-16")
    assert items(tmp_path, source) == [{"item_id": "1", "title": "A, B; C"}]


def test_a_query_reads_files_by_their_names(tmp_path: Path) -> None:
    source = written(tmp_path / "my items.csv", "sku,name,live\n01,Mug,yes\n02,Jug,no\n")
    query = "SELECT sku AS item_id, upper(name) AS title FROM my_items WHERE read_flag(live);"
    import_data([source], tmp_path / "out", query=query)
    assert rows_of(tmp_path / "out", "items") == [{"item_id": "01", "title": "MUG"}]


def test_a_query_reads_the_tables_of_a_duckdb_file(tmp_path: Path) -> None:
    import duckdb

    with duckdb.connect(tmp_path / "shop.duckdb") as connection:
        connection.execute("CREATE TABLE sales AS SELECT 'u' AS u, 'i' AS i, TIMESTAMP '2024-01-05 10:00:00' AS t")
    query = "SELECT u AS user_id, i AS item_id, 'purchase' AS event, t AS timestamp FROM sales"
    report = import_data([tmp_path / "shop.duckdb"], tmp_path / "out", query=query)
    assert [(table.name, table.rows) for table in report.tables] == [("events", 1)]


def test_without_duckdb_the_line_to_type_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("retrieval.extras.find_spec", lambda name: None)
    with pytest.raises(MissingDependency, match=r"pip install 'shortlist\[import\]'"):
        import_data([PRODUCTS], tmp_path)
