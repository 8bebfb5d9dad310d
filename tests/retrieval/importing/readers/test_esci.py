"""ESCI: labels as grades, the split of the files, and products of several locales."""

from import_exports import ExportOf, only


def test_labels_are_grades_and_splits_are_kept(export_of: ExportOf) -> None:
    _, tables = export_of("esci")
    assert only(tables["queries"], "text", query_id="1000") == [("mug",)]
    assert only(tables["judgements"], "item_id", "grade", "split", query_id="1000") == [
        ("B000000000", 3.0, "test"),
        ("B000000001", 2.0, "test"),
        ("B000000002", 1.0, "test"),
        ("B000000005", 0.0, "test"),
    ]
    assert len(tables["queries"]) == 20
    assert len(tables["judgements"]) == 76


def test_a_product_of_another_locale_is_another_item(export_of: ExportOf) -> None:
    _, tables = export_of("esci")
    mugs = [row for row in tables["items"] if str(row["item_id"]).startswith("B000000000")]
    assert only(mugs, "item_id", "title", "locale", "brand", "colour") == [
        ("B000000000", "Stoneware mug, 350 ml", "us", "Harbour & Hill", "Brass"),
        ("B000000000-es", "Taza de gres", "es", "Harbour & Hill", None),
    ]
    assert only(tables["judgements"], "query_id", "grade", item_id="B000000000-es") == [("2000", 2.0)]
