"""Slices of the test requests, beside those of every evaluation: which targets belong to each, bool [n_targets]."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from benchmarks.quality.revenue import prices_of
from retrieval.data.events import Events
from retrieval.data.requests import Requests
from retrieval.metrics.beyond_accuracy import head_items
from retrieval.metrics.ranking import Counts
from retrieval.text.analysis import Analyzer
from retrieval.topk import CSR, Mask

BANDS = 4  # price bands with as many items each
LONG_QUERY = 4  # words


def item_slices(items: pa.Table, counts: Counts | None, targets: CSR) -> dict[str, Mask]:
    """By item: `head`, the best sellers that make up half of all sales, `tail`, the rest, and price bands.

    counts is int64 [n_items], the sales of each item; None where they are not known.
    """
    found: dict[str, Mask] = {}
    if counts is not None:
        head = head_items(counts)[targets.rows]
        found = {"head": head, "tail": ~head}
    prices = prices_of(items)
    if np.isfinite(prices).any():
        edges = np.nanquantile(prices, np.linspace(0, 1, BANDS + 1)[1:-1])
        bands = np.searchsorted(edges, prices[targets.rows])
        known = np.isfinite(prices[targets.rows])
        found |= {f"price_{band + 1}_of_{BANDS}": known & (bands == band) for band in range(BANDS)}
    return found


def event_slices(events: Events, requests: Requests, targets: CSR, kinds: NDArray[np.int16]) -> dict[str, Mask]:
    """By event: `of_KIND`, the kind of the target's own event (`kinds`, int16 [n_targets], -1 unknown), and
    `after_KIND`, the kind of the user's last event before. Neither where there is only one kind."""
    before = requests.end > events.offsets[requests.user]
    last = np.where(before, events.kind[np.maximum(requests.end - 1, 0)], -1)[targets.owners]
    return {**_by_kind("of", kinds, events.kinds), **_by_kind("after", last, events.kinds)}


def query_slices(texts: Sequence[str], item_texts: Sequence[str], targets: CSR, analyzer: Analyzer) -> dict[str, Mask]:
    """By query: `long_queries` with LONG_QUERY words or more, and `short_queries`; `unknown_words`, of which one is in
    no item's text, as most misspelt ones are, and `known_words`; `one_relevant`, with a single relevant item."""
    known = {stem for text in item_texts for stem in analyzer.stems(text)}
    read = [analyzer.stems(text) for text in texts]
    long = np.array([len(one) >= LONG_QUERY for one in read], bool)
    unknown = np.array([any(stem not in known for stem in one) for one in read], bool)
    single = np.diff(targets.indptr) == 1
    found = {
        "short_queries": ~long, "long_queries": long, "known_words": ~unknown, "unknown_words": unknown,
        "one_relevant": single,
    }  # fmt: skip
    return {name: mask[targets.owners] for name, mask in found.items()}


def _by_kind(relation: str, codes: NDArray[np.int16], names: Sequence[str]) -> dict[str, Mask]:
    there = [code for code in range(len(names)) if (codes == code).any()]
    return {f"{relation}_{names[code]}": codes == code for code in there} if len(there) > 1 else {}
