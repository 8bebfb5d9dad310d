"""Instacart: orders of two files, and times that are built, since the data has none."""

from datetime import datetime

from import_exports import ExportOf, only


def test_times_follow_from_the_days_between_orders(export_of: ExportOf) -> None:
    _, tables = export_of("instacart")
    orders = dict.fromkeys(only(tables["events"], "basket_id", "timestamp", user_id="1"))
    assert list(orders) == [
        ("2539330", datetime(2017, 1, 9, 8)),  # day 2 of the week that begins on Saturday, 7 January
        ("2539331", datetime(2017, 1, 9, 9)),
        ("2539332", datetime(2017, 1, 16, 10)),
        ("2539333", datetime(2017, 2, 15, 11)),
        ("2539334", datetime(2017, 2, 18, 12)),  # of order_products__train.csv
    ]


def test_products_keep_the_order_in_which_they_were_put_in_the_cart(export_of: ExportOf) -> None:
    _, tables = export_of("instacart")
    assert only(tables["events"], "item_id", "event", basket_id="2539330") == [
        ("196", "purchase"),
        ("27845", "purchase"),
        ("1", "purchase"),
    ]
    assert len(tables["events"]) == 134


def test_departments_and_aisles_are_the_category(export_of: ExportOf) -> None:
    _, tables = export_of("instacart")
    assert only(tables["items"], "item_id", "title", "category") == [
        ("1", "Chocolate Sandwich Cookies", ["snacks", "cookies cakes"]),
        ("3", "Robust Golden Unsweetened Oolong Tea", ["beverages", "tea"]),
        ("196", 'Organic "Gala" Apples, 3 lb', ["produce", "fresh fruits"]),
        ("13176", "Bag of Organic Bananas", ["produce", "fresh fruits"]),
        ("21137", "Organic Strawberries", ["produce", "fresh fruits"]),
        ("27845", "Organic Whole Milk", ["dairy eggs", "milk"]),
        ("24852", "Banana", ["produce", "fresh fruits"]),
        ("49235", "Organic Half & Half", None),
    ]
