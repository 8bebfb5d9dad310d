"""Shopify's customer events: variants with their product, clients who become customers, checkouts that come twice."""

from datetime import datetime

from import_exports import ExportOf, only, told


def test_a_client_is_the_customer_that_it_bought_as(export_of: ExportOf) -> None:
    _, tables = export_of("shopify-pixel")
    events = only(
        tables["events"],
        "item_id",
        "event",
        "quantity",
        "price",
        "basket_id",
        "query",
        user_id="shopper7090@example.org",
    )
    assert events == [
        ("GD-02-1", "view", None, 18.0, None, "garden gloves"),
        ("GD-02-2", "view", None, 18.0, None, "garden gloves"),
        ("GD-02-2", "cart", 2.0, 18.0, None, "garden gloves"),
        ("GD-02-2", "purchase", 1.0, 18.0, "5999", None),
        ("GD-03", "purchase", 3.0, 7.5, "5999", None),
    ]
    assert only(tables["events"], "timestamp", event="cart", item_id="GD-02-2") == [
        (datetime(2025, 3, 10, 20, 4, 0, 879000),)
    ]


def test_items_are_variants_by_sku_grouped_by_product(export_of: ExportOf) -> None:
    _, tables = export_of("shopify-pixel")
    gloves = [row for row in tables["items"] if row.get("group_id") == "780892000005"]
    assert only(gloves, "item_id", "title", "brand", "category", "price") == [
        ("GD-02", "Leather gardening gloves", "Thornfield", ["Clothing"], 18.0),
        ("GD-02-1", "Leather gardening gloves - M", "Thornfield", ["Clothing"], 18.0),
        ("GD-02-2", "Leather gardening gloves - L", "Thornfield", ["Clothing"], 18.0),
    ]
    assert len(tables["items"]) == 12


def test_what_is_left_out_is_counted(export_of: ExportOf) -> None:
    report, _ = export_of("shopify-pixel")
    assert told(report, "events") == {
        "an order that was sent before": 2,
        "event checkout_started, which is not read": 1,
        "event collection_viewed, which is not read": 1,
        "event page_viewed, which is not read": 1,
        "event product_removed_from_cart, which is not read": 1,
        "event search_submitted, which is not read": 1,
        "product_viewed without the id of a variant": 1,
    }
