"""Shopify's products and orders, with image rows, continuation lines, drafts, refunds and cancelled orders."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

from import_exports import imported, left_out, one_table, rows_of, usable


def test_each_variant_is_an_item_with_what_its_product_says(tmp_path: Path) -> None:
    report = imported("shopify", tmp_path)
    assert report.reader == "shopify"
    shared = {
        "category": ["Home & Garden", "Kitchen & Dining", "Tableware"],
        "brand": "Acme",
        "description": "<p>A <b>red</b> mug,\ndishwasher safe</p>",
        "image": "https://cdn/red1.jpg",
        "group_id": "red-mug",
        "tags": "kitchen, red",
    }
    small = {"item_id": "00123", "title": "Red Mug - Small", "price": 12.99, "in_stock": True} | shared
    large = {"item_id": "MUG-L", "title": "Red Mug - Large", "price": 15.5, "in_stock": False} | shared
    blue = {"item_id": "blue-mug", "title": "Blue Mug", "price": 9.0, "in_stock": True, "category": ["Mugs"]}
    assert rows_of(tmp_path, "items") == [
        small | {"barcode": "4006381333931"},
        large,
        blue | {"brand": "Acme", "group_id": "blue-mug"},
    ]
    assert left_out(report, "items") == {"draft product": 1, "hidden product": 1, "row of a further image": 1}


def test_order_lines_are_purchases_and_what_was_given_back_is_returned(tmp_path: Path) -> None:
    report = imported("shopify", tmp_path)
    events = [
        (row["user_id"], row["item_id"], row["event"], row["timestamp"], row["basket_id"])
        for row in rows_of(tmp_path, "events")
    ]
    assert events == [
        ("ann@example.com", "00123", "purchase", datetime(2024, 3, 1, 7, 59), "#1001"),
        ("ann@example.com", "blue-mug", "purchase", datetime(2024, 3, 1, 7, 59), "#1001"),
        ("bob@example.com", "MUG-L", "purchase", datetime(2024, 3, 2, 7, 59), "#1002"),
        ("cem@example.com", "MUG-L", "purchase", datetime(2024, 3, 3, 7, 59), "#1003"),
        ("dee@example.com", "blue-mug", "purchase", datetime(2024, 3, 5, 7, 59), "#1005"),
        ("bob@example.com", "MUG-L", "return", datetime(2024, 3, 2, 7, 59, 1), "#1002"),
        ("cem@example.com", "MUG-L", "return", datetime(2024, 3, 4, 6, 0), "#1003"),
    ]
    assert [row.get("quantity") for row in rows_of(tmp_path, "events")][:2] == [1.0, 2.0]
    assert left_out(report, "events") == {"order without an email or phone": 1}
    assert [str(one) for one in one_table(report, "events").notes] == [
        "1 x order refunded in part, kept as bought (first: 'dee@example.com')"
    ]


def test_what_comes_out_is_a_data_set(tmp_path: Path) -> None:
    imported("shopify", tmp_path)
    assert usable(tmp_path)
