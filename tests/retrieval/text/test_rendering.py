"""The text of items and shoppers is pinned: by a golden file, and by what must hold for any input."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retrieval.text import rendering
from retrieval.text.rendering import (
    Item,
    clean,
    field_markers_fingerprint,
    item_text,
    item_texts,
    price_band,
    rendering_fingerprint,
    trim,
    user_text,
)

GOLDEN = json.loads((Path(__file__).parent / "golden" / "text.json").read_text(encoding="utf-8"))

pieces = [
    "a",
    "Mug",
    "acme",
    "ACME",
    " ",
    "\t",
    "\x00",
    "\u00a0",
    "\u0085",
    "é",
    "茶",
    "|",
    ";",
    ",",
    "x" * 90,
    "word " * 50,
]
words = st.lists(st.sampled_from(pieces), max_size=4).map("".join)
an_item = st.builds(
    Item,
    title=words,
    brand=st.none() | words,
    category=st.none() | words | st.lists(st.none() | words, max_size=4),
    price=st.none() | st.floats(),
    description=st.none() | words,
)


@pytest.mark.parametrize("case", GOLDEN["items"], ids=lambda case: case["why"])
def test_items_read_as_in_the_golden_file(case: dict[str, Any]) -> None:
    assert item_text(Item(**case["item"]), frozenset(case.get("boilerplate", []))) == case["text"]


@pytest.mark.parametrize("case", GOLDEN["shoppers"], ids=lambda case: case["why"])
def test_shoppers_read_as_in_the_golden_file(case: dict[str, Any]) -> None:
    assert user_text(case["titles"], case["query"], kinds=case.get("kinds")) == case["text"]


def test_the_rendering_fingerprint_is_the_golden_one() -> None:
    assert rendering_fingerprint() == GOLDEN["fingerprint"], (
        "the text changed: raise TEXT_VERSION, renew the golden file"
    )


def test_the_rendering_fingerprint_follows_the_rendering(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rendering, "TITLE_LIMIT", 299)
    assert rendering_fingerprint() != GOLDEN["fingerprint"]


def test_what_is_said_with_kinds_has_a_fingerprint_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    assert field_markers_fingerprint() == GOLDEN["marked"], "what is said with kinds changed: renew the golden file"
    monkeypatch.setattr(rendering, "RECENT_TITLE_LIMIT", 2)
    assert field_markers_fingerprint() != GOLDEN["marked"]


def test_kinds_that_are_not_those_of_the_titles_are_refused() -> None:
    with pytest.raises(ValueError, match="shorter"):
        user_text(["Blue Mug", "Red Mug"], kinds=["view"])


@settings(deadline=None, max_examples=25)
@given(st.lists(an_item, min_size=1, max_size=2), st.sampled_from(["string", "list"]))
def test_a_table_reads_as_its_items_do(some: list[Item], layout: str) -> None:
    one_string = layout == "string"
    alike = [
        Item(title=i.title, brand=i.brand, category=_category(i, one_string), price=i.price, description=i.description)
        for i in some
    ]
    table = pa.table(
        {
            "item_id": [str(n) for n in range(len(alike))],
            "title": pa.array([i.title for i in alike], pa.string()),
            "brand": pa.array([i.brand for i in alike], pa.string()),
            "category": pa.array([i.category for i in alike], pa.string() if one_string else pa.list_(pa.string())),
            "price": pa.array([i.price for i in alike], pa.float64()),
            "description": pa.array([i.description for i in alike], pa.string()),
        }
    )
    assert item_texts(table) == [item_text(i) for i in alike]


def _category(item: Item, one_string: bool) -> str | list[str | None] | None:
    if item.category is None:
        return None
    if one_string:
        return item.category if isinstance(item.category, str) else ", ".join(c or "" for c in item.category)
    return [item.category] if isinstance(item.category, str) else list(item.category)


def test_a_table_of_titles_alone_reads_as_its_titles() -> None:
    assert item_texts(pa.table({"item_id": ["1", "2"], "title": ["Blue  Mug", "Red Mug"]})) == ["Blue Mug", "Red Mug"]


@settings(deadline=None, max_examples=25)
@given(an_item)
def test_no_item_text_holds_controls_runs_of_blanks_or_more_than_its_share(item: Item) -> None:
    text = item_text(item)
    assert text == clean(text)
    assert len(text) <= 300 + 80 + 200 + 300 + 60


@settings(deadline=None, max_examples=25)
@given(words, st.integers(1, 40))
def test_trimming_keeps_a_beginning_within_the_limit(text: str, limit: int) -> None:
    text = clean(text)
    cut = trim(text, limit)
    assert len(cut) <= limit
    assert text.startswith(cut)
    assert (cut == text) == (len(text) <= limit)


@settings(deadline=None, max_examples=25)
@given(st.floats(0.001, 1e12))
def test_a_price_lies_in_its_band(price: float) -> None:
    band = price_band(price).split()
    if band[1] == "under":
        assert price < float(band[2])
    elif band[1] == "over":
        assert price >= float(band[2])
    else:
        assert float(band[1]) <= price < float(band[3])


@settings(deadline=None, max_examples=25)
@given(st.lists(words, max_size=9), st.none() | words)
def test_a_shopper_reads_as_the_query_and_five_titles_at_most(titles: list[str], query: str | None) -> None:
    text = user_text(titles, query)
    assert text == clean(text)
    assert len(text) <= 300 + 5 * 82
    assert text.startswith(trim(clean(query or ""), 300))
