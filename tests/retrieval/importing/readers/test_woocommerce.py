"""WooCommerce's products with variations, drafts and hidden ones, and orders of three exporting plugins."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import pytest

from import_exports import EXPORTS, imported, left_out, rows_of, usable
from retrieval.importing.run import import_data


def test_variations_and_simple_products_are_items(tmp_path: Path) -> None:
    report = imported("woocommerce", tmp_path)
    assert report.reader == "woocommerce"
    parent = {
        "category": ["Clothing", "Hoodies"],
        "other_categories": "Sale, Winter",
        "brand": "Acme",
        "description": "Warm &amp; soft <ul>\n<li>Cotton</li>\n</ul>",
        "group_id": "HOODIE",
        "tags": "cosy, winter",
    }
    blue = {"item_id": "HOODIE-B", "title": "Hoodie - Blue", "price": 39.9, "in_stock": True} | parent
    red = {"item_id": "12", "title": "Hoodie - Red", "price": 45.0, "in_stock": False} | parent
    card = {"item_id": "007", "title": "Gift card", "category": ["Uncategorized"], "price": 1250.0, "in_stock": True}
    assert rows_of(tmp_path, "items") == [
        blue | {"image": "https://x/blue.jpg", "gtin": "04006381333931"},
        red | {"image": "https://x/h1.jpg"},
        card,
    ]
    assert left_out(report, "items") == {
        "draft product": 1,
        "group of products": 1,
        "hidden product": 1,
        "parent of variants": 1,
        "private product": 1,
    }
    assert usable(tmp_path)


def test_orders_by_line_say_what_was_given_back(tmp_path: Path) -> None:
    report = imported("woocommerce", tmp_path)
    events = [(row["user_id"], row["item_id"], row["event"], row["quantity"]) for row in rows_of(tmp_path, "events")]
    assert events == [
        ("ann@example.com", "HOODIE-B", "purchase", 2.0),
        ("ann@example.com", "12", "purchase", 1.0),
        ("bob@example.com", "007", "purchase", 1.0),
        ("cem@example.com", "HOODIE-B", "purchase", 1.0),
        ("ann@example.com", "12", "return", 1.0),
        ("bob@example.com", "007", "return", 1.0),
        ("cem@example.com", "HOODIE-B", "return", 1.0),
    ]
    first, back = rows_of(tmp_path, "events")[1], rows_of(tmp_path, "events")[4]
    assert (first["timestamp"], back["timestamp"]) == (datetime(2024, 2, 1, 10), datetime(2024, 2, 1, 10, 0, 1))
    assert left_out(report, "events") == {"order never paid": 1, "order without an email": 1}


@pytest.mark.parametrize(
    "orders",
    [
        "order_id,order_number,date,status,billing_email,item_name,item_sku,item_quantity,item_price,item_refunded_qty\n"
        "9,A9,2024-02-01 10:00:00,completed,ann@example.com,Hoodie - Blue,HOODIE-B,2,39.90,-1\n"
        "9,A9,2024-02-01 10:00:00,completed,ann@example.com,Hoodie - Red,,1,45.00,0\n",
        "order_number,order_date,status,billing_email,line_items\n"
        'A9,2024-02-01 10:00:00,wc-completed,ann@example.com,"id:1|name:Hoodie - Blue|sku:HOODIE-B|quantity:2|'
        'price:39.90|refunded_qty:1;id:2|name:Hoodie - Red|product_id:12|sku:|quantity:1|price:45.00|refunded_qty:0"\n',
    ],
    ids=["a row a line", "a row an order"],
)
def test_other_plugins_orders_tell_the_same(tmp_path: Path, orders: str) -> None:
    (tmp_path / "orders.csv").write_text(orders)
    import_data([EXPORTS / "woocommerce/wc-product-export.csv", tmp_path / "orders.csv"], tmp_path / "out")
    events = [
        (row["item_id"], row["event"], row["quantity"], row["price"]) for row in rows_of(tmp_path / "out", "events")
    ]
    assert events == [
        ("HOODIE-B", "purchase", 2.0, 39.9),
        ("12", "purchase", 1.0, 45.0),
        ("HOODIE-B", "return", 1.0, 39.9),
    ]
    assert {row["basket_id"] for row in rows_of(tmp_path / "out", "events")} == {"A9"}
