"""The page of features has a row for every one that is registered, in the words of its declaration."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from feature_shops import feature_shop
from ranking.features.registry import feature_groups

PAGE = Path(__file__).parents[2] / "docs/features.md"


def tables() -> str:
    """The tables of the page."""
    shop = feature_shop(1, n_events=200)
    facts, parts = replace(shop.facts, sources=("SOURCE",)), []
    for group in feature_groups():
        rows = [f"| `{one.name}` | {one.unit} | {one.about} | {one.missing} |" for one in group.of(facts)]
        head = ["| feature | unit | what it is | missing |", "|---|---|---|---|"]
        parts.append("\n".join([f"### {group.name}", "", f"Reads {group.reads}.", "", *head, *rows, ""]))
    return "\n".join(parts)


def test_the_page_has_every_feature() -> None:
    assert tables() in PAGE.read_text("utf-8"), f"a declaration changed: put this into {PAGE.name}\n\n{tables()}"
