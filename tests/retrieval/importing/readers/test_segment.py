"""Segment's calls: products of orders, times with an offset, identities, refunds, and calls that arrive twice."""

from datetime import datetime

from import_exports import ExportOf, only, told


def test_a_visitor_who_signs_in_is_one_user_with_the_query_that_led_there(export_of: ExportOf) -> None:
    _, tables = export_of("segment")
    assert only(tables["events"], "item_id", "event", "timestamp", "quantity", "price", "query", user_id="u77")[:4] == [
        ("LT-01", "click", datetime(2025, 3, 10, 20, 0, 30, 250000), None, 79.0, "brass lamp"),
        ("LT-01", "view", datetime(2025, 3, 10, 20, 1, 0, 250000), None, 79.0, "brass lamp"),
        ("LT-01", "cart", datetime(2025, 3, 10, 20, 6), 1.0, 79.0, "brass lamp"),  # sent as 22:06:00+0200
        ("KM-01", "favourite", datetime(2025, 3, 10, 20, 8, 0, 250000), None, 12.5, None),
    ]


def test_refunds_and_cancelled_orders_are_returns(export_of: ExportOf) -> None:
    _, tables = export_of("segment")
    assert only(tables["events"], "event", "item_id", "quantity", basket_id="O900") == [
        ("purchase", "GD-01", 1.0),
        ("purchase", "KM-01", 2.0),
        ("return", "KM-01", 1.0),
    ]
    assert only(tables["events"], "event", "item_id", "quantity", basket_id="O901") == [
        ("purchase", "GD-01", 2.0),
        ("purchase", "LT-01", 1.0),
        ("return", "GD-01", 2.0),
        ("return", "LT-01", 1.0),
    ]


def test_items_have_the_latest_values_that_calls_named(export_of: ExportOf) -> None:
    _, tables = export_of("segment")
    assert len(tables["items"]) == 10
    assert only(tables["items"], "title", "brand", "category", "price", "image", item_id="LT-01") == [
        ("Reading lamp, brass", "Lumen Bros", ["Home", "Lamps"], 79.0, "https://shop.example/LT-01.jpg")
    ]


def test_what_is_left_out_is_counted(export_of: ExportOf) -> None:
    report, tables = export_of("segment")
    assert len(tables["events"]) == 107
    assert told(report, "events") == {
        "a call that was sent before": 1,
        "event product removed, which is not read": 1,
        "event products searched, which is not read": 1,
        "event signed up, which is not read": 1,
        "identify calls": 1,
        "page calls": 1,
        "product viewed without the id of an item": 1,
    }
