"""Google Merchant's feed as tab-separated text and as RSS with the namespace `g`."""

from __future__ import annotations

from pathlib import Path

from import_exports import imported, rows_of, usable


def test_a_feed_of_text_is_items(tmp_path: Path) -> None:
    report = imported("google-merchant", tmp_path)
    assert report.reader == "google-merchant"
    dress = {"brand": "Acme", "group_id": "D1", "condition": "new", "color": "red"}
    short = dress | {"item_id": "0042", "title": "Red dress, short", "price": 49.99, "in_stock": True, "size": "S"}
    long = dress | {"item_id": "0043", "title": "Red dress, long", "price": 1059.0, "in_stock": False, "size": "M"}
    short |= {"category": ["Women", "Dresses", "Mini"], "gtin": "00012345600012", "mpn": "AC-42"}
    short |= {"description": 'A dress, <b>red</b>\nwith "pockets"', "image": "https://shop/i/42.jpg"}
    long |= {
        "category": ["Apparel & Accessories", "Clothing", "Dresses"],
        "mpn": "AC-43",
        "image": "https://shop/i/43.jpg",
    }
    mug = {"item_id": "0044", "title": "Mug", "price": 12.5, "in_stock": False, "condition": "new"}
    assert rows_of(tmp_path, "items") == [
        short | {"link": "https://shop/p/42"},
        long | {"link": "https://shop/p/43"},
        mug | {"link": "https://shop/p/44", "image": "https://shop/i/44.jpg"},
    ]
    assert usable(tmp_path)


def test_a_feed_of_xml_is_items(tmp_path: Path) -> None:
    report = imported("google-merchant-xml", tmp_path)
    assert report.reader == "google-merchant"
    assert rows_of(tmp_path, "items") == [
        {
            "item_id": "0042",
            "title": "Tea & coffee mug",
            "category": ["Kitchen", "Mugs"],
            "price": 12.99,
            "description": "<p>Holds 300 ml</p>",
            "in_stock": True,
            "image": "https://shop/i/42.jpg",
            "link": "https://shop/p/42",
            "group_id": "MUG",
        },
        {
            "item_id": "0043",
            "title": "Teapot",
            "category": ["Home & Garden", "Kitchen & Dining"],
            "price": 1299.0,
            "in_stock": False,
            "link": "https://shop/p/43",
        },
    ]
