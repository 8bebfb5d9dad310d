"""The candidate sources of a release: the words of its items on disk, the others out of what its shoppers did."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa

from indexing.lookup import HashIndex, hash_keys, rows_of
from indexing.version import IndexVersion
from retrieval.errors import CorruptBundle
from retrieval.sources import (
    CandidateSource,
    CoOccurrence,
    ExactMatch,
    Lexical,
    OwnFrequency,
    RecentPopularity,
    TakenBefore,
)
from retrieval.topk import Rows
from serving.retriever import EXACT
from serving.shoppers import Shoppers

TOGETHER, OWN, BEFORE, WEEK, MONTH, WORDS = (
    "co_occurrence", "own_frequency", "taken_before", "popularity_7d", "popularity_30d", "words",
)  # fmt: skip
CODES = ("sku", "gtin", "ean", "upc", "mpn", "isbn")  # columns whose values name an item as its id does
VOCABULARY = "words.json"
ARRAYS = ("indptr", "rows", "scores")


def write_words(folder: Path, item_texts: list[str]) -> None:
    """Writes the words of rendered items, in the order of an index."""
    words = Lexical.of(item_texts)
    for name in ARRAYS:
        np.save(folder / f"{name}.npy", getattr(words, name))
    (folder / VOCABULARY).write_text(json.dumps(dict(words.codes), ensure_ascii=False), "utf-8")


def open_sources(
    words: Path | None, version: IndexVersion, shoppers: Shoppers, targets: tuple[str, ...]
) -> dict[str, CandidateSource]:
    """Every source by its name, over the rows of one index version. `words` is a folder of `write_words` for it,
    `targets` are the kinds of events by which an item is taken."""
    timeline, n_items = shoppers.timeline, version.size
    codes = [timeline.kinds.index(kind) for kind in targets if kind in timeline.kinds]
    taken = np.flatnonzero(np.isin(timeline.kind, codes) & (timeline.item >= 0))
    found: dict[str, CandidateSource] = {OWN: OwnFrequency(), BEFORE: TakenBefore(), EXACT: _exact(version)}
    for name, days in ((WEEK, 7), (MONTH, 30)):
        found[name] = RecentPopularity.of(timeline.time[taken], timeline.item[taken], n_items, days=days)
    if shoppers.together is not None:
        found[TOGETHER] = CoOccurrence(shoppers.together)
    if words is not None:
        found[WORDS] = _read_words(words)
    return found


def _exact(version: IndexVersion) -> ExactMatch:
    lookups: list[Callable[[Sequence[str]], Rows]] = [version.rows_of]
    for name in version.items.column_names:
        if name.lower() in CODES and pa.types.is_string(version.items.schema.field(name).type):
            column = version.items[name]
            known = column.is_valid().to_numpy(zero_copy_only=False)
            rows, codes = np.flatnonzero(known), column.drop_null()
            lookups.append(partial(_rows_of_codes, HashIndex.build(hash_keys(codes.to_pylist())), codes, rows))
    return ExactMatch(lookups)


def _rows_of_codes(lookup: HashIndex, codes: pa.ChunkedArray, rows: Rows, texts: Sequence[str]) -> Rows:
    found = rows_of(texts, lookup, codes)
    return np.where(found >= 0, np.append(rows, -1)[found], -1)


def _read_words(folder: Path) -> Lexical:
    try:
        codes = json.loads((folder / VOCABULARY).read_text("utf-8"))
        arrays = [np.load(folder / f"{name}.npy", mmap_mode="r").view(np.ndarray) for name in ARRAYS]
    except (OSError, ValueError) as error:
        raise CorruptBundle(f"{folder} cannot be read ({error}); restore it or build the index again") from error
    return Lexical(codes, *arrays)
