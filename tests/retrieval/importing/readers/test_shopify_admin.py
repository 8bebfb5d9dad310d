"""The JSON of Shopify's admin API: nested variants and lines, and refunds that name their lines."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path

from import_exports import EXPORTS, imported, left_out, rows_of, usable
from retrieval.importing.run import import_data


def test_each_nested_variant_is_an_item(tmp_path: Path) -> None:
    report = imported("shopify-admin", tmp_path)
    assert report.reader == "shopify-admin"
    mug = {"category": ["Mugs"], "brand": "Acme", "description": "<p>A <b>red</b> mug</p>", "group_id": "632910392"}
    mug |= {"image": "https://cdn/red.jpg", "tags": "kitchen, red"}
    small = {"item_id": "MUG-S", "title": "Red Mug - S", "price": 12.99, "in_stock": True, "barcode": "04006381333931"}
    large = {"item_id": "808950811", "title": "Red Mug - L", "price": 15.5, "in_stock": False}
    card = {"item_id": "808950820", "title": "Gift card", "brand": "Acme", "price": 25.0, "in_stock": True}
    assert rows_of(tmp_path, "items") == [mug | small, mug | large, card | {"group_id": "632910393"}]
    assert left_out(report, "items") == {"draft product": 1, "hidden product": 1}
    assert usable(tmp_path)


def test_a_refund_returns_its_line_and_a_cancelled_order_all_of_them(tmp_path: Path) -> None:
    report = imported("shopify-admin", tmp_path)
    events = [
        (row["user_id"], row["item_id"], row["event"], row["quantity"], row["timestamp"])
        for row in rows_of(tmp_path, "events")
    ]
    assert events == [
        ("ann@example.com", "MUG-S", "purchase", 2.0, datetime(2024, 3, 1, 7, 59)),
        ("ann@example.com", "808950811", "purchase", 1.0, datetime(2024, 3, 1, 7, 59)),
        ("207119552", "808950820", "purchase", 1.0, datetime(2024, 3, 2, 7, 59)),
        ("ann@example.com", "MUG-S", "return", 1.0, datetime(2024, 3, 5, 10, 0)),
        ("207119552", "808950820", "return", 1.0, datetime(2024, 3, 2, 8, 30)),
    ]
    assert left_out(report, "events") == {"order without a customer": 1}


def test_objects_one_a_line_are_the_same(tmp_path: Path) -> None:
    products = json.loads((EXPORTS / "shopify-admin/products.json").read_text())["products"]
    (tmp_path / "products.jsonl").write_text("".join(json.dumps(one) + "\n" for one in products))
    import_data([tmp_path / "products.jsonl"], tmp_path / "lines")
    imported("shopify-admin", tmp_path / "whole")
    assert rows_of(tmp_path / "lines", "items") == rows_of(tmp_path / "whole", "items")
