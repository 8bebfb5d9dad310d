"""OTTO: nested events of sessions, epochs in ms, and items without a title."""

from datetime import datetime

from import_exports import ExportOf, only


def test_sessions_become_events(export_of: ExportOf) -> None:
    _, tables = export_of("otto")
    assert only(tables["events"], "session_id", "item_id", "event", "timestamp", user_id="1")[:4] == [
        ("1", "1309446", "click", datetime(2022, 7, 31, 23, 0, 0, 25000)),
        ("1", "16246", "click", datetime(2022, 7, 31, 23, 0, 40, 25000)),
        ("1", "16246", "cart", datetime(2022, 7, 31, 23, 0, 49, 25000)),
        ("1", "16246", "purchase", datetime(2022, 7, 31, 23, 1, 0, 25000)),
    ]
    assert len(tables["events"]) == 102


def test_the_title_of_an_item_is_its_id(export_of: ExportOf) -> None:
    _, tables = export_of("otto")
    ids = ["1152674", "1309446", "1517085", "1563459", "16246", "1649869", "1781822"]
    assert only(tables["items"], "item_id", "title") == [(one, one) for one in ids]
