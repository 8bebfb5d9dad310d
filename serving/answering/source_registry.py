"""The candidate sources of a release: of its items' words, ids and prices, and of what its shoppers did."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache, partial
from pathlib import Path
from typing import TypeAlias

import numpy as np
import pyarrow as pa

from indexing.bundle.atomic_files import write_array
from indexing.version.hash_index import HashIndex, hash_keys, rows_of
from indexing.version.index_version import IndexVersion
from retrieval.errors import CorruptBundle
from retrieval.sources.behaviour import CoOccurrence, OwnFrequency, RecentlyBrowsed, TakenBefore
from retrieval.sources.exact import ExactMatch
from retrieval.sources.lexical import Lexical
from retrieval.sources.protocols import CandidateSource
from retrieval.sources.recent import RecentPopularity
from retrieval.sources.scorers import Newness, PriceFit
from retrieval.topk import Mask, Rows
from serving.answering.retriever import EXACT
from serving.answering.user_store import Shoppers

TOGETHER, NEXT, OWN, BEFORE, LOOKED, WEEK, MONTH, LATELY, WORDS, NEW, FIT = (
    "co_occurrence", "right_after", "own_frequency", "taken_before", "looked_at", "popularity_7d", "popularity_30d",
    "together_14d", "words", "newness", "price_fit",
)  # fmt: skip
PRICE = "price"
Lookup: TypeAlias = Callable[[Sequence[str]], Rows]
CODES = ("sku", "gtin", "ean", "upc", "mpn", "isbn")  # columns whose values name an item as its id does
VOCABULARY = "words.json"
ARRAYS = ("indptr", "rows", "scores")


def write_words(folder: Path, item_texts: Sequence[str]) -> None:
    """Writes the words of rendered items, in the order of an index."""
    words = Lexical.of(item_texts)
    for name in ARRAYS:
        write_array(folder / f"{name}.npy", getattr(words, name))
    (folder / VOCABULARY).write_text(json.dumps(dict(words.codes), ensure_ascii=False), "utf-8")


def open_sources(words: Path | None, version: IndexVersion, shoppers: Shoppers, targets: tuple[str, ...]) -> Sources:
    """Every source by its name, over the rows of one index version as it was built.

    `words` is a folder of `write_words` for it, `targets` are the kinds of events by which an item is taken.
    """
    timeline = shoppers.timeline

    def sold(days: int) -> RecentPopularity:
        taken = np.flatnonzero(np.isin(timeline.kind, timeline.codes_of(targets)) & (timeline.item >= 0))
        return RecentPopularity.of(timeline.time[taken], timeline.item[taken], days=days)

    def new() -> Newness:
        known = np.flatnonzero(timeline.item >= 0)
        return Newness.of(timeline.time[known], timeline.item[known], version.size)

    makers: dict[str, Callable[[], CandidateSource]] = {
        NEW: new,
        OWN: OwnFrequency,
        BEFORE: TakenBefore,
        LOOKED: RecentlyBrowsed,
        WEEK: lambda: sold(7),
        MONTH: lambda: sold(30),
        LATELY: lambda: shoppers.taken_together(targets, version.size),
    }
    if (together := shoppers.together) is not None:
        makers[TOGETHER] = lambda: CoOccurrence(together())
    if (after := shoppers.after) is not None:
        makers[NEXT] = lambda: CoOccurrence(after(), reads=1)
    if words is not None:
        makers[WORDS] = lambda: _read_words(words)
    return Sources(makers, version, cache(partial(_code_lookups, version.items, np.arange(version.size))))


class Sources(Mapping[str, CandidateSource]):
    """Sources by their name, each made when it is first read.

    `codes` finds items as they were built by their codes.
    """

    def __init__(
        self,
        makers: Mapping[str, Callable[[], CandidateSource]],
        version: IndexVersion,
        codes: Callable[[], Sequence[Lookup]],
    ) -> None:
        self._makers: dict[str, Callable[[], CandidateSource]] = {**makers, EXACT: lambda: _exact(version, codes)}
        if PRICE in version.items.column_names:
            self._makers[FIT] = lambda: _price_fit(version)
        self._made = dict[str, CandidateSource]()
        self._codes = codes

    def updated(self, version: IndexVersion) -> Sources:
        """The same over an updated version, whose new and changed items are found by their ids and codes alone, and
        fit by their new prices: words, sales and what goes together stay as of the build."""
        renewed = Sources(self._makers, version, self._codes)
        renewed._made = {name: source for name, source in self._made.copy().items() if name not in (EXACT, FIT)}
        if FIT in self._made:
            _ = renewed[FIT]  # now, and not in the next request
        return renewed

    def __getitem__(self, name: str) -> CandidateSource:
        if name not in self._made:
            self._made[name] = self._makers[name]()
        return self._made[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._makers)

    def __len__(self) -> int:
        return len(self._makers)


def _exact(version: IndexVersion, codes: Callable[[], Sequence[Lookup]]) -> ExactMatch:
    delta = version.delta
    if delta is None:
        return ExactMatch([version.rows_of, *codes()])
    replaced = delta.place[: delta.n_base] >= delta.n_base
    built = [partial(_unless, replaced, lookup) for lookup in codes()]
    rows = delta.rows_now()
    late = _code_lookups(delta.items.filter(pa.array(rows >= 0)), rows[rows >= 0])
    return ExactMatch([version.rows_of, *built, *late])


def _price_fit(version: IndexVersion) -> PriceFit:
    prices = version.values_at(PRICE, np.arange(version.size)).cast(pa.float64())
    return PriceFit.of(prices.to_numpy())


def _code_lookups(items: pa.Table, rows: Rows) -> list[Lookup]:
    """What finds items by each column of codes that they have; `rows` int64 [n_items] are theirs."""
    lookups: list[Lookup] = []
    for name in items.column_names:
        kind = items.schema.field(name).type
        if name.lower() in CODES and (pa.types.is_string(kind) or pa.types.is_integer(kind)):
            column = items[name].cast(pa.string())
            known = column.is_valid().to_numpy(zero_copy_only=False)
            codes = column.drop_null()
            lookups.append(partial(_rows_of_codes, HashIndex.build(hash_keys(codes.to_pylist())), codes, rows[known]))
    return lookups


def _unless(replaced: Mask, lookup: Lookup, texts: Sequence[str]) -> Rows:
    found = lookup(texts)
    return np.where((found >= 0) & ~replaced[found], found, -1)


def _rows_of_codes(lookup: HashIndex, codes: pa.ChunkedArray, rows: Rows, texts: Sequence[str]) -> Rows:
    found = rows_of(texts, lookup, codes)
    return np.where(found >= 0, np.append(rows, -1)[found], -1)


def _read_words(folder: Path) -> Lexical:
    try:
        codes = json.loads((folder / VOCABULARY).read_text("utf-8"))
        arrays = [np.load(folder / f"{name}.npy", mmap_mode="r").view(np.ndarray) for name in ARRAYS]
    except (OSError, ValueError, EOFError) as error:
        raise CorruptBundle(f"{folder} cannot be read ({error}); restore it or build the index again") from error
    return Lexical(codes, *arrays)
