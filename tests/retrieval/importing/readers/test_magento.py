"""Magento's products with store views and configurables, and the lines of orders in two files or in one."""

from __future__ import annotations

from pathlib import Path

from import_exports import EXPORTS, imported, left_out, rows_of, usable
from retrieval.importing.run import import_data

PRODUCTS = EXPORTS / "magento/export_catalog_product.csv"


def test_the_variants_of_configurables_are_items(tmp_path: Path) -> None:
    report = imported("magento", tmp_path)
    assert report.reader == "magento"
    hoodie = {
        "category": ["Men", "Tops", "Hoodies"],
        "other_categories": "Sale",
        "brand": "Acme",
        "description": "Soft. <p>Warm</p>",
        "group_id": "MH01",
        "color": "Red",
    }
    small = {"item_id": "MH01-S-Red", "title": "Chaz Hoodie-S-Red", "price": 52.0, "in_stock": True, "size": "S"}
    medium = {"item_id": "MH01-M-Red", "title": "Chaz Hoodie-M-Red", "price": 39.99, "in_stock": False, "size": "M"}
    bag = {"item_id": "24-MB01", "title": "Joust Bag", "price": 34.0, "in_stock": True, "color": "Blue"}
    assert rows_of(tmp_path, "items") == [
        hoodie | small | {"image": "/m/h/red.jpg"},
        hoodie | medium | {"image": "/m/h/chaz.jpg"},
        bag | {"category": ["Gear", "Bags/Cases"], "brand": "Bags, Inc.", "description": 'A bag, "big"'},
    ]
    assert left_out(report, "items") == {
        "disabled product": 1,
        "group of products": 1,
        "hidden product": 1,
        "parent of variants": 1,
        "row of the store view de": 1,
    }
    assert usable(tmp_path)


def test_lines_are_joined_to_their_orders(tmp_path: Path) -> None:
    report = imported("magento", tmp_path)
    events = [
        (row["user_id"], row["item_id"], row["event"], row["quantity"], row["basket_id"])
        for row in rows_of(tmp_path, "events")
    ]
    assert events == [
        ("ann@example.com", "MH01-S-Red", "purchase", 1.0, "000000101"),
        ("ann@example.com", "24-MB01", "purchase", 2.0, "000000101"),
        ("bob@example.com", "MH01-M-Red", "purchase", 1.0, "000000102"),
        ("ann@example.com", "24-MB01", "return", 1.0, "000000101"),
        ("bob@example.com", "MH01-M-Red", "return", 1.0, "000000102"),
    ]
    assert left_out(report, "events") == {"order never paid": 1, "part of another line": 1}


def test_lines_that_carry_their_order_tell_the_same(tmp_path: Path) -> None:
    (tmp_path / "lines.csv").write_text(
        "increment_id;customer_email;status;created_at;sku;qty_ordered;qty_refunded;price\n"
        "7;ann@example.com;canceled;2024-02-01 10:00:00;24-MB01;2,0000;0,0000;34,00\n"
    )
    import_data([PRODUCTS, tmp_path / "lines.csv"], tmp_path / "out")
    assert [(row["event"], row["quantity"], row["price"]) for row in rows_of(tmp_path / "out", "events")] == [
        ("purchase", 2.0, 34.0),
        ("return", 2.0, 34.0),
    ]
