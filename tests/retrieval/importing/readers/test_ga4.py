"""GA4's BigQuery export: nested items, epochs in µs, searches, refunds, and orders that are sent again."""

from datetime import datetime

from import_exports import ExportOf, only, told


def test_events_have_their_kind_item_time_and_order(export_of: ExportOf) -> None:
    _, tables = export_of("ga4")
    events = tables["events"]
    first = [row for row in events if row["user_id"] == "1000.1600"][:4]
    assert only(first, "item_id", "event", "timestamp", "quantity", "price", "basket_id", "session_id") == [
        ("KM-01", "view", datetime(2025, 3, 1, 8, 0, 0, 766593), None, 12.5, None, "1740800000"),
        ("KM-02", "view", datetime(2025, 3, 1, 8, 2, 0, 766593), None, 9.0, None, "1740800000"),
        ("KM-02", "cart", datetime(2025, 3, 1, 8, 3, 0, 766593), 1.0, 9.0, None, "1740800000"),
        ("KM-02", "purchase", datetime(2025, 3, 1, 8, 6, 0, 766593), 1.0, 9.0, "T00", "1740800000"),
    ]


def test_a_search_term_is_the_query_of_what_follows_in_its_session(export_of: ExportOf) -> None:
    _, tables = export_of("ga4")
    assert only(tables["events"], "item_id", "event", "query", session_id="77") == [
        ("KT-01", "click", "teapot"),
        ("KT-01", "view", "teapot"),
        ("KT-01", "cart", "teapot"),
        ("LT-01", "favourite", None),
    ]
    assert {row.get("query") for row in tables["events"] if row.get("session_id") != "77"} == {None}


def test_a_refund_returns_its_items_or_the_whole_order(export_of: ExportOf) -> None:
    _, tables = export_of("ga4")
    assert only(tables["events"], "event", "item_id", "quantity", basket_id="T900") == [
        ("purchase", "GD-02", 2.0),
        ("purchase", "GD-03", 3.0),
        ("return", "GD-03", 1.0),
    ]
    assert only(tables["events"], "event", "item_id", "quantity", basket_id="T901") == [
        ("purchase", "LT-02", 1.0),
        ("purchase", "LT-03", 2.0),
        ("return", "LT-02", 1.0),
        ("return", "LT-03", 2.0),
    ]


def test_a_device_is_the_user_that_once_signed_in_on_it(export_of: ExportOf) -> None:
    _, tables = export_of("ga4")
    users = {row["user_id"] for row in tables["events"]}
    assert "customer-1" in users
    assert "1001.1601" not in users


def test_items_are_those_of_events_with_their_latest_values(export_of: ExportOf) -> None:
    _, tables = export_of("ga4")
    items = tables["items"]
    assert len(items) == 11
    assert items[0] == {
        "item_id": "GD-01",
        "title": "Bypass pruning shears",
        "brand": "Thornfield",
        "price": 24.0,
        "category": ["Garden", "Hand tools"],
    }
    assert only(items, "title", item_id="Gift card") == [("Gift card",)]  # `(not set)` is no id: the name stands in


def test_what_is_left_out_is_counted(export_of: ExportOf) -> None:
    report, _ = export_of("ga4")
    left_out = told(report, "events")
    broken = [what for what in left_out if "events_20250310.json.gz that is no JSON" in what]
    assert [left_out.pop(what) for what in broken] == [1]
    assert left_out == {
        "an order that was sent before": 2,
        "event view_item_list, which is not read": 2,
        "event page_view, which is not read": 1,
        "event view_search_results, which is not read": 1,
        "event remove_from_cart, which is not read": 1,
        "view_item without the id or the name of an item": 1,
    }
