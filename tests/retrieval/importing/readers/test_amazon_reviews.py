"""Amazon Reviews 2023: items by their parent, prices as texts, epochs in ms, reviews and items that are there twice."""

from datetime import datetime

from import_exports import ExportOf, only, told


def test_a_review_is_an_event_of_the_parent_with_its_rating(export_of: ExportOf) -> None:
    _, tables = export_of("amazon-reviews")
    events = tables["events"]
    text = "Just right. Does what it should.<br />Would buy again."
    assert only(events, "item_id", "event", "timestamp", "rating", "review", user_id="AE01XQ")[:2] == [
        ("B0GD02X05", "purchase", datetime(2025, 3, 2, 13, 13, 0, 923000), 5.0, text),
        ("B0GD03X06", "purchase", datetime(2025, 3, 5, 13, 13, 0, 923000), 5.0, text),
    ]
    assert only(events, "item_id", "review", rating=1.0) == [("B0KM01X00", "Broke. Broke after a week.")]
    assert {row["event"] for row in events if row["user_id"] == "AE02XQ"} == {"review"}  # it is not verified
    assert told(export_of("amazon-reviews")[0], "events") == {"a review that was there before": 1}


def test_prices_are_read_as_they_are_written(export_of: ExportOf) -> None:
    report, tables = export_of("amazon-reviews")
    assert only(tables["items"], "item_id", "price") == [
        ("B0GD01X04", 24.0),
        ("B0GD02X05", None),  # a dash
        ("B0GD03X06", 7.5),
        ("B0KM01X00", 12.5),
        ("B0KM02X01", 9.0),
        ("B0KT01X02", 49.0),  # $49.00
        ("B0KT02X03", None),
        ("B0LT01X07", 79.0),  # from 79.00
        ("B0LT02X08", 15.0),
        ("B0LT03X09", 11.0),
    ]
    assert told(report, "items") == {
        "an item that was there before": 1,
        "an item without a title": 1,
        "price that cannot be read": 1,
    }


def test_features_come_before_the_description(export_of: ExportOf) -> None:
    _, tables = export_of("amazon-reviews")
    assert only(tables["items"], "title", "brand", "category", "image", "description", item_id="B0KM02X01") == [
        (
            "Enamel camping mug",
            "Northlight",
            ["Home & Kitchen", "Kitchen", "Mugs"],
            "https://m.example/1.jpg",
            "Made by Northlight. Dishwasher safe. A enamel camping mug. For every day.",
        )
    ]
    assert only(tables["items"], "description", item_id="B0KM01X00") == [("A stoneware mug, 350 ml. For every day.",)]
