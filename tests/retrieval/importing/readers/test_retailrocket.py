"""RetailRocket: hashed properties that change over time, numbers such as `n552.000`, and a tree of categories."""

from datetime import datetime

from import_exports import ExportOf, only, told


def test_the_latest_properties_count_and_categories_have_their_parents(export_of: ExportOf) -> None:
    report, tables = export_of("retailrocket")
    assert only(tables["items"], "item_id", "title", "category", "in_stock", "price") == [
        ("132256", "132256", ["169", "809"], True, 1080.0),
        ("156781", "156781", ["213", "1338"], True, 840.0),
        ("183478", "183478", ["213", "1016"], True, 960.0),
        ("206783", "206783", ["213", "1338"], False, 480.0),  # moved, and sold out
        ("318965", "318965", None, None, None),
        ("395014", "395014", ["169", "809"], True, 600.0),
        ("420307", "420307", ["885", "1691", "536"], True, 1200.0),
        ("460429", "460429", ["213", "1338"], True, 552.0),  # n360.000, n480.000, n552.000
        ("59481", "59481", ["885", "1691", "536"], True, 720.0),
    ]
    assert told(report, "items") == {"known by events alone": 1}


def test_events_keep_their_transaction(export_of: ExportOf) -> None:
    _, tables = export_of("retailrocket")
    assert only(tables["events"], "item_id", "event", "timestamp", "basket_id", user_id="257597")[:4] == [
        ("460429", "view", datetime(2015, 6, 2, 5, 2, 12, 117000), None),
        ("206783", "view", datetime(2015, 6, 2, 5, 3, 12, 117000), None),
        ("206783", "cart", datetime(2015, 6, 2, 5, 3, 42, 117000), None),
        ("206783", "purchase", datetime(2015, 6, 2, 5, 5, 32, 117000), "4000"),
    ]
    assert len(tables["events"]) == 151
