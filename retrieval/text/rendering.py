"""Rendering of items and shoppers as text for models: pure functions, the same bytes in training and in serving.

A change of the rendering changes `rendering_fingerprint()`, so that models trained on the old text are refused; a
change of the markers of event kinds changes `field_markers_fingerprint()`, which refuses the rankers that read them.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence, Set
from dataclasses import dataclass
from itertools import repeat
from typing import overload

import pyarrow as pa

from retrieval.fingerprint import fingerprint
from retrieval.text.descriptions import boilerplate_of, without_shared
from retrieval.text.markup import without_markup

TEXT_VERSION = 2
TITLE_LIMIT = 300
CATEGORY_LIMIT = 200
BRAND_LIMIT = 80
DESCRIPTION_LIMIT = 300
QUERY_LIMIT = 300
RECENT_TITLE_LIMIT = 80
RECENT_TITLES = 5
FIELD_SEPARATOR = " | "
BLOCK = 16_384  # items rendered at once

_PRICE_EDGES = [digit * 10**power for power in range(10) for digit in (1, 2, 5)]
# control characters become blanks, also those that `str.split` does not count as white space
_CONTROLS = dict.fromkeys([*range(0x20), *range(0x7F, 0xA0)], " ")


@dataclass(frozen=True, kw_only=True)
class Item:
    """The fields of an item that are rendered; all but the title may be missing. `price` is in the shop's currency."""

    title: str
    brand: str | None = None
    category: str | Sequence[str | None] | None = None
    price: float | None = None
    description: str | None = None


def item_text(item: Item, boilerplate: Set[str] = frozenset()) -> str:
    """The known fields as `title | brand | categories | price band | description`.

    Markup is taken out. Control characters and runs of white space become one blank. Categories are listed once each,
    in order. A brand that the title begins with, or that is a category, is left out, and so are sentences of the
    description in `boilerplate` (see `retrieval.text.descriptions`). Each field is cut at a word (title and description
    at 300 characters, categories at 200, brand at 80).

    >>> item_text(Item(title="Argan Oil Mask", brand="Moroccanoil", category=("Hair Care",)))
    'Argan Oil Mask | Moroccanoil | Hair Care'
    >>> item_text(Item(title="Acme  Mug\\n", brand="ACME", category=["Kitchen", "Mugs", "Kitchen"], price=7.5))
    'Acme Mug | Kitchen, Mugs | price 5 to 10'
    """
    return _render(boilerplate, item.title, item.brand, item.category, item.price, item.description)


def item_texts(table: pa.Table) -> list[str]:
    """`item_text` of each row of an items table, in row order; about 4 seconds for a million rows.

    The table needs a `title`; `brand`, `category`, `price` and `description` are used where present. Sentences that the
    catalogue's descriptions share are left out, as the table's schema records them.
    """
    names = ("title", "brand", "category", "price", "description")
    columns = [table[name].to_pylist() if name in table.column_names else repeat(None) for name in names]
    boilerplate = boilerplate_of(table)
    return [_render(boilerplate, *values) for values in zip(*columns, strict=False)]


class ItemTexts(Sequence[str]):
    """The `item_texts` of a table as a lazy sequence: a slice is rendered at once, iteration renders in blocks.

    >>> texts = ItemTexts(pa.table({"title": ["Mug", "Drill", "Saw"]}))
    >>> len(texts), texts[1], texts[1:], [*texts]
    (3, 'Drill', ['Drill', 'Saw'], ['Mug', 'Drill', 'Saw'])
    """

    def __init__(self, items: pa.Table) -> None:
        self._items = items

    def __len__(self) -> int:
        return int(self._items.num_rows)

    @overload
    def __getitem__(self, rows: int) -> str: ...
    @overload
    def __getitem__(self, rows: slice) -> list[str]: ...
    def __getitem__(self, rows: int | slice) -> str | list[str]:
        if isinstance(rows, int):
            return self[rows : rows + 1 or None][0]
        start, stop, step = rows.indices(len(self))
        return item_texts(self._items.slice(start, max(0, stop - start)))[::step]

    def __iter__(self) -> Iterator[str]:
        for start in range(0, len(self), BLOCK):
            yield from self[start : start + BLOCK]


def price_band(price: float | None) -> str:
    """The band of a price, with edges at 1, 2, 5, 10, 20, 50 and so on; empty where the price is unknown.

    A price that is missing, not finite or not above 0 is unknown.

    >>> price_band(12.5), price_band(0.4), price_band(20), price_band(None)
    ('price 10 to 20', 'price under 1', 'price 20 to 50', '')
    """
    if price is None or not math.isfinite(price) or price <= 0:
        return ""
    at = bisect_right(_PRICE_EDGES, price)
    if at == 0:
        return f"price under {_PRICE_EDGES[0]}"
    if at == len(_PRICE_EDGES):
        return f"price over {_PRICE_EDGES[-1]}"
    return f"price {_PRICE_EDGES[at - 1]} to {_PRICE_EDGES[at]}"


def user_text(
    titles: Iterable[str],
    query: str | None = None,
    *,
    limit: int = RECENT_TITLES,
    kinds: Iterable[str] | None = None,
) -> str:
    """The text of a shopper for a cross-encoder: the query, if any, then the newest titles.

    Args:
        titles: titles of the shopper's history, newest first; each is cut at 80 characters and listed once.
        query: the search query, cut at 300 characters.
        limit: the largest number of titles.
        kinds: the kind of event of each title, one per title, empty where unknown. If given, each part is marked: the
            query with `query:`, a title with the kind of its newest event.

    >>> user_text(["Blue Mug", "Red  Mug", "Blue Mug"], "tea cup")
    'tea cup; Blue Mug; Red Mug'
    >>> user_text(["Blue Mug", "Red Mug", "Blue Mug"], "tea cup", kinds=["cart", "purchase", "view"])
    'query: tea cup; cart: Blue Mug; purchase: Red Mug'
    >>> user_text([])
    ''
    """
    recent: dict[str, str] = {}
    for title, kind in ((title, "") for title in titles) if kinds is None else zip(titles, kinds, strict=True):
        if len(recent) >= limit:
            break
        recent.setdefault(trim(clean(title), RECENT_TITLE_LIMIT), clean(kind))
    marked = [(query_text(query or ""), "" if kinds is None else "query"), *recent.items()]
    return "; ".join(f"{kind}: {part}" if kind else part for part, kind in marked if part)


def query_text(text: str) -> str:
    """A query as models read it, whether it comes from an event, a judged query or a request.

    >>> query_text(" red\\t mug ")
    'red mug'
    """
    return trim(clean(text), QUERY_LIMIT)


def clean(text: str) -> str:
    """`text` without markup, with every run of white space and control characters as one blank, none at the ends.

    >>> clean("  a\\x00b\\t <i>c</i> &amp; d ")
    'a b c & d'
    """
    text = without_markup(text)
    if not text.isprintable():
        text = text.translate(_CONTROLS)
    return " ".join(text.split())


def trim(text: str, limit: int) -> str:
    """`text` cut at a blank to at most `limit` characters; a word that is longer than half of them is cut inside.

    >>> trim("one two three", 9), trim("abcdef", 4), trim("a bcdefghi", 8)
    ('one two', 'abcd', 'a bcdefg')
    """
    if len(text) <= limit:
        return text
    head = text[: limit + 1].rpartition(" ")[0]
    return head if len(head) >= limit / 2 else text[:limit]


def rendering_fingerprint() -> str:
    """A fingerprint of `TEXT_VERSION`, the limits, and how a few items and shoppers are rendered."""
    limits = [
        TITLE_LIMIT,
        CATEGORY_LIMIT,
        BRAND_LIMIT,
        DESCRIPTION_LIMIT,
        QUERY_LIMIT,
        RECENT_TITLE_LIMIT,
        RECENT_TITLES,
    ]
    words = "word " * 200
    items = [
        Item(title="  Acme\tMug \x00 red", brand="acme", category=["Kitchen", "Mugs", "Kitchen"], price=12.5),
        Item(title=words, brand=words, category=words, price=0.5, description=words),
        Item(title="Mask", brand="Argan", category=("Argan", "Hair"), price=1e12, description="x" * 400),
        Item(title="<b>Mug</b> &amp; lid", description=f"<p>Free shipping today.</p>Blue.<br>{words}"),
    ]
    texts = [item_text(item, frozenset({"free shipping today"})) for item in items]
    shoppers = [user_text([words, "Mug", "Mug", "a", "b", "c", "d"], words), user_text(["Mug"]), user_text([])]
    bands = [price_band(edge) for edge in _PRICE_EDGES]
    return fingerprint(TEXT_VERSION, limits, bands, texts, shoppers)


def field_markers_fingerprint() -> str:
    """A fingerprint of how `user_text` renders a few shoppers whose events have kinds."""
    titles, kinds = ["Mug", "Red\tMug", "Mug", " ", "Pan"], ["cart", "add\tto cart", "view", "view", ""]
    return fingerprint([user_text(titles, query, kinds=kinds) for query in (None, "tea  cup")])


def _render(
    boilerplate: Set[str],
    title: str | None,
    brand: str | None,
    category: str | Sequence[str | None] | None,
    price: float | None,
    description: str | None,
) -> str:
    name = trim(clean(title or ""), TITLE_LIMIT)
    categories = _distinct(category)
    parts = [
        name,
        _unmentioned_brand(clean(brand or ""), name, categories),
        trim(", ".join(categories), CATEGORY_LIMIT),
        price_band(price),
        trim(_told(description or "", boilerplate), DESCRIPTION_LIMIT),
    ]
    return FIELD_SEPARATOR.join(part for part in parts if part)


def _told(description: str, boilerplate: Set[str]) -> str:
    """What a description tells of its item alone."""
    return clean(without_shared(without_markup(description), boilerplate)) if boilerplate else clean(description)


def _distinct(category: str | Sequence[str | None] | None) -> list[str]:
    if category is None:
        return []
    names = [category] if isinstance(category, str) else category
    return [name for name in dict.fromkeys(clean(name or "") for name in names) if name]


def _unmentioned_brand(brand: str, title: str, categories: list[str]) -> str:
    """The brand, or "" where the title begins with it as whole words or a category equals it, ignoring case."""
    if not brand:
        return ""
    folded = brand.casefold()
    opens_title = (title.casefold() + " ").startswith(folded + " ")
    named = any(name.casefold() == folded for name in categories)
    return "" if opens_title or named else trim(brand, BRAND_LIMIT)
