"""What features read of a shop: its items, and when each was taken or looked at."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import IntEnum
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from ranking.features.item_events import EventCounts, ItemEvents
from ranking.features.item_words import ItemWords
from retrieval.data.event_kinds import Meaning, meaning
from retrieval.text.analysis import Analyzer
from retrieval.topk import Rows, Vectors

if TYPE_CHECKING:
    from scipy.sparse import csr_array

    from retrieval.data.timeline import Timeline

CATEGORIES = 6  # names of an item's category that are read: the first, and the last ones
PATH = " > "  # between the parts of a category that is one string
OF_ITEMS = (
    "does",
    "log_price",
    "categories",
    "brands",
    "item_words",
    "_coded_brands",
    "_brand_words",
    "_similar",
)  # what of ShopFacts does not depend on the events
REPEATS = 3  # gaps between takings of an item by one shopper that are needed to tell what is typical
PRIOR_RATINGS = 5.0  # ratings at the shop's mean that are added to every item's own


class Does(IntEnum):
    """What a kind of event means to features."""

    TAKE, CART, LIKE, LOOK, RETURN, OTHER = range(6)


DOES = {
    Meaning.PURCHASE: Does.TAKE,
    Meaning.CHECKOUT: Does.CART,
    Meaning.CART: Does.CART,
    Meaning.FAVOURITE: Does.LIKE,
    Meaning.CLICK: Does.LOOK,
    Meaning.VIEW: Does.LOOK,
    Meaning.RETURN: Does.RETURN,
    Meaning.OTHER: Does.OTHER,
}


class ItemFigures(NamedTuple):
    """What training events say of each item, of an index as it was built."""

    takings: NDArray[np.float32]  # [n] how often it was taken
    gap: NDArray[np.float32]  # [n] days, the median between takings of it by one shopper; nan: too few to tell
    rating: NDArray[np.float32]  # [n] mean, drawn towards the shop's mean; nan without any rating in the shop
    ratings: NDArray[np.float32]  # [n] how many

    @classmethod
    def none(cls, n: int) -> ItemFigures:
        """Of a shop without events."""
        unknown, zeros = np.full(n, np.nan, np.float32), np.zeros(n, np.float32)
        return cls(zeros, unknown, unknown, zeros)


@dataclass(frozen=True, kw_only=True)
class ShopFacts:
    """A shop as features read it, over the rows of one index version.

    items: the attributes by row. analyzer: reads their words and those of queries. timeline: the events of all
    shoppers. targets: kinds by which an item is taken. dated: whether times are dates that all shoppers share; else
    they only put one shopper's events in order, and what is popular at a time cannot be told. figures: what
    training events say of items. similarities: item-to-item, by name. vectors_at: index vectors of rows;
    tower_parts: the slices of those, by name. items_with: how many items have a word, by its stem; None where
    nobody counted. today: microseconds since 1970, UTC, up to when the events of all shoppers are known; None:
    always.
    """

    items: pa.Table
    analyzer: Analyzer
    timeline: Timeline
    targets: tuple[str, ...]
    dated: bool
    figures: ItemFigures
    sources: tuple[str, ...] = ()
    similarities: Mapping[str, Callable[[], csr_array]] = field(default_factory=dict)
    vectors_at: Callable[[Rows], Vectors]
    tower_parts: Mapping[str, slice] = field(default_factory=dict)
    items_with: Callable[[str], int] | None = None
    today: int | None = None

    @property
    def n_items(self) -> int:
        """The number of rows."""
        return int(self.items.num_rows)

    @cached_property
    def does(self) -> NDArray[np.int64]:
        """The meaning of each code of a kind of event, int64 [n_kinds + 1]; the last is for -1, an unknown kind."""
        return np.array([*(does_of(kind, self.targets) for kind in self.timeline.kinds), Does.OTHER], np.int64)

    @cached_property
    def taken(self) -> EventCounts:
        """When items were taken."""
        return self._when(self.does[self.timeline.kind] == Does.TAKE)

    @cached_property
    def looked(self) -> EventCounts:
        """When items were looked at, put into a cart or liked."""
        return self._when(np.isin(self.does[self.timeline.kind], (Does.CART, Does.LIKE, Does.LOOK)))

    @cached_property
    def has_looks(self) -> bool:
        """Whether there are events other than takings and returns."""
        return len(self.looked) > 0

    @cached_property
    def log_price(self) -> NDArray[np.float64]:
        """Log prices by row, nan where unknown."""
        if "price" not in self.items.column_names:
            return np.full(self.n_items, np.nan)
        prices = self.items["price"].cast(pa.float64()).to_numpy()
        return np.log(np.where(prices > 0, prices, np.nan))

    @cached_property
    def categories(self) -> tuple[NDArray[np.int64], int]:
        """Codes of each item's categories, int64 [n_items, CATEGORIES], -1 for none, the parent (or the first) in front
        and the leaf (or the last) at the end; and how many codes there are."""
        return category_codes(self.items)

    @cached_property
    def brands(self) -> tuple[NDArray[np.int64], int]:
        """Codes of each item's brand, int64 [n_items], -1 for none; and how many codes there are."""
        if "brand" not in self.items.column_names:
            return np.full(self.n_items, -1), 0
        codes = self._coded_brands.indices.fill_null(-1).to_numpy(zero_copy_only=False)
        return codes.astype(np.int64), len(self._coded_brands.dictionary)

    def with_timeline(self, timeline: Timeline) -> ShopFacts:
        """The same items with other events of the same kinds; what was read of the items is kept."""
        made = replace(self, timeline=timeline)
        made.__dict__.update({name: self.__dict__[name] for name in OF_ITEMS if name in self.__dict__})
        return made

    def continued(self, taken: EventCounts, looked: EventCounts, today: int) -> ShopFacts:
        """The same items, up to `today` (microseconds since 1970, UTC), with when they were taken and looked at by
        then."""
        made = replace(self, today=today)
        made.__dict__.update(self.__dict__ | {"today": today, "taken": taken, "looked": looked})
        return made

    def brand_words(self, row: int) -> tuple[str, ...]:
        """The stems of an item's brand; empty for none."""
        codes, n = self.brands
        return self._brand_words[int(codes[row])] if n and codes[row] >= 0 else ()

    def similar(self, name: str) -> csr_array | None:
        """Item-to-item similarities with ascending columns, or None."""
        return self._similar.get(name)

    @cached_property
    def item_words(self) -> ItemWords:
        """The words of the items."""
        return ItemWords(self.items, self.analyzer)

    @cached_property
    def _coded_brands(self) -> pa.DictionaryArray:
        column = self.items["brand"].cast(pa.string()).combine_chunks()
        return pc.dictionary_encode(column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column)

    @cached_property
    def _brand_words(self) -> list[tuple[str, ...]]:
        return [tuple(self.analyzer.stems(name)) for name in self._coded_brands.dictionary.to_pylist()]

    @cached_property
    def _similar(self) -> dict[str, csr_array]:
        read = {name: make() for name, make in self.similarities.items()}
        for matrix in read.values():
            matrix.sort_indices()
        return read

    def _when(self, kept: NDArray[np.bool_]) -> ItemEvents:
        at = np.flatnonzero(kept & (self.timeline.item >= 0))
        return ItemEvents.of(self.timeline.item[at], self.timeline.time[at], self.n_items)


def does_of(kind: str, targets: Sequence[str]) -> Does:
    """What a kind of event means to features; the kinds `targets` are takings whatever their names.

    >>> does_of("Add-to_Cart", ["purchase"]).name, does_of("refund", ["purchase"]).name, does_of("call", ["call"]).name
    ('CART', 'RETURN', 'TAKE')
    """
    return Does.TAKE if kind in targets else DOES[meaning(kind)]


def category_codes(items: pa.Table) -> tuple[NDArray[np.int64], int]:
    """See `ShopFacts.categories`."""
    found = np.full((items.num_rows, CATEGORIES), -1, np.int64)
    if "category" not in items.column_names:
        return found, 0
    column = items["category"].combine_chunks()
    if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
        column = pc.split_pattern(column, PATH)
    if isinstance(column, pa.ChunkedArray):
        column = column.combine_chunks()
    owners = pc.list_parent_indices(column).to_numpy(zero_copy_only=False).astype(np.int64)
    coded = pc.dictionary_encode(pc.list_flatten(column).cast(pa.string()))
    codes = coded.indices.fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int64)
    owners, codes = owners[codes >= 0], codes[codes >= 0]
    sizes = np.bincount(owners, minlength=items.num_rows)
    place = np.arange(len(owners)) - (np.cumsum(sizes) - sizes)[owners]
    from_end = sizes[owners] - 1 - place
    at = np.where(place == 0, 0, CATEGORIES - 1 - from_end)
    kept = (place == 0) | (at > 0)
    found[owners[kept], at[kept]] = codes[kept]
    alone = sizes == 1
    found[alone, -1] = found[alone, 0]
    return found, len(coded.dictionary)


def item_figures(
    items: NDArray[np.integer],
    users: NDArray[np.integer],
    times: NDArray[np.int64],
    ratings: NDArray[np.floating],
    taken: NDArray[np.bool_],
    n_items: int,
) -> ItemFigures:
    """From training events sorted by user, then time: item rows, users, times (microseconds), ratings (nan for none)
    and whether each is a taking, [n_events] each."""
    takings = np.bincount(items[taken], minlength=n_items).astype(np.float32)
    rated = np.isfinite(ratings)
    counts = np.bincount(items[rated], minlength=n_items)
    rating = np.full(n_items, np.nan)
    if rated.any():
        mean = float(np.mean(ratings[rated], dtype=np.float64))
        sums = np.bincount(items[rated], ratings[rated], n_items)
        rating = (sums + PRIOR_RATINGS * mean) / (counts + PRIOR_RATINGS)
    gap = _typical_gaps(items[taken], users[taken], times[taken], n_items)
    return ItemFigures(takings, gap, rating.astype(np.float32), counts.astype(np.float32))


def _typical_gaps(
    items: NDArray[np.integer], users: NDArray[np.integer], times: NDArray[np.int64], n_items: int
) -> NDArray[np.float32]:
    """The median days between takings of each item by one shopper, float32 [n_items]; nan for fewer than REPEATS."""
    order = np.lexsort((times, users, items))
    items, users, times = items[order], users[order], times[order]
    same = (items[1:] == items[:-1]) & (users[1:] == users[:-1]) & (times[1:] > times[:-1])
    of, days = items[1:][same], np.diff(times)[same] / 86_400e6
    by_length = np.lexsort((days, of))
    of, days = of[by_length], days[by_length]
    begins, sizes = np.unique(of, return_index=True)[1], np.bincount(of, minlength=n_items)
    found = np.full(n_items, np.nan, np.float32)
    rows = of[begins]
    enough = sizes[rows] >= REPEATS
    found[rows[enough]] = days[begins[enough] + sizes[rows[enough]] // 2]
    return found
