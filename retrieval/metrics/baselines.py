"""Baselines that every evaluation prints for comparison: popularity, item-kNN, BM25, an untuned encoder and others.

A baseline scores every item for each request. Shoppers without a history, and items that a baseline has no score for,
fall back to popularity, so that no baseline is weaker than it would be in a shop.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from numpy.typing import NDArray

from retrieval.data.time_units import DAY
from retrieval.data.timeline import Timeline
from retrieval.metrics.ranking import Counts, Places
from retrieval.sources.cooccurrence import cooccurrence, incidence
from retrieval.sources.lexical import Lexical
from retrieval.sources.protocols import RequestBatch
from retrieval.text.analysis import Analyzer
from retrieval.topk import CSR, Hits, Mask, Scores, Vectors, best_columns

if TYPE_CHECKING:
    from scipy.sparse import csr_array

    from retrieval.data.dataset import Events
    from retrieval.data.split import EventSplit, Requests

Positions: TypeAlias = NDArray[np.int64]
CELLS = 8_388_608  # scores in memory at once: 32 MB


@dataclass(frozen=True)
class Baseline:
    """A ranking of the whole catalogue for each of a list of requests.

    `score` maps positions of requests, int64 [n], to scores float32 [n, n_items]; -inf marks items never to be shown.
    """

    n_requests: int
    n_items: int
    score: Callable[[Positions], Scores]

    def rank(self, k: int, *, exclude: CSR | None = None) -> Hits:
        """The k best items of each request, without the rows that `exclude` lists for it; ties go to the lower row."""
        hits = Hits(np.full((self.n_requests, k), -1, np.int64), np.full((self.n_requests, k), -np.inf, np.float32))
        for part, scores in self._blocks(exclude):
            found = best_columns(scores, k)
            width = found.rows.shape[1]
            hits.rows[part, :width] = np.where(found.scores > -np.inf, found.rows, -1)
            hits.scores[part, :width] = found.scores
        return hits

    def places(self, targets: CSR, *, exclude: CSR | None = None) -> Places:
        """The places of the targets among all items, with ties of any size counted exactly."""
        places = Places(np.zeros(len(targets.rows), np.int64), np.zeros(len(targets.rows), np.int64))
        sizes = np.diff(targets.indptr)
        for part, scores in self._blocks(exclude):
            for j in range(int(sizes[part].max(initial=0))):  # the j-th target of every request that has one
                line = np.flatnonzero(sizes[part] > j)
                at = targets.indptr[part[line]] + j
                own = scores[line, targets.rows[at]][:, None]
                rows = scores if len(line) == len(part) else scores[line]
                answered = own[:, 0] > -np.inf
                places.above[at] = np.count_nonzero(rows > own, axis=1) * answered
                places.tied[at] = np.count_nonzero(rows == own, axis=1) * answered
        return places

    def pair_scores(self, pairs: CSR) -> Scores:
        """The scores of given (request, item) pairs, float32 [len(pairs.rows)], for ranking judged items."""
        found = np.empty(len(pairs.rows), np.float32)
        for part, scores in self._blocks(None):
            owned = slice(pairs.indptr[part[0]], pairs.indptr[part[-1] + 1])
            found[owned] = scores[pairs.owners[owned] - part[0], pairs.rows[owned]]
        return found

    def _blocks(self, exclude: CSR | None) -> Iterator[tuple[Positions, Scores]]:
        size = max(1, CELLS // max(1, self.n_items))
        for start in range(0, self.n_requests, size):
            part = np.arange(start, min(start + size, self.n_requests))
            scores = self.score(part)
            if exclude is not None:
                own = exclude.select(part)
                scores[own.owners, own.rows] = -np.inf
            yield part, scores


def popularity(n_requests: int, counts: Counts) -> Baseline:
    """The most popular items for everybody; `counts` is int64 [n_items], events of each item."""
    line = counts.astype(np.float32)
    return Baseline(n_requests, len(counts), lambda part: np.tile(line, (len(part), 1)))


def recent_popularity(requests: Requests, events: Events, counted: Mask, counts: Counts, *, days: int) -> Baseline:
    """Popularity over the `days` whole days before the request's day (UTC), then overall popularity.

    `counted` is bool [n_events], a mask of the events to read; those of the request's day or later are never read.
    """
    used = np.flatnonzero(counted)
    used = used[np.argsort(events.time[used], kind="stable")]
    day, item = events.time[used] // DAY, events.item[used]
    request_day, fallback = requests.time // DAY, _tie_breaker(counts)

    def score(part: Positions) -> Scores:
        distinct, which = np.unique(request_day[part], return_inverse=True)
        lines = np.empty((len(distinct), len(counts)), np.float32)
        for line, today in zip(lines, distinct, strict=True):
            window = slice(*np.searchsorted(day, [today - days, today]))
            line[:] = np.bincount(item[window], minlength=len(counts)) + fallback
        return lines[which]

    return Baseline(len(requests), len(counts), score)


def own_frequency(history: CSR, counts: Counts) -> Baseline:
    """The items the shopper had most often before, then overall popularity: a strong baseline for repeat purchases.

    `history` lists the item rows of each request's earlier events, with repeats.
    """
    fallback = _tie_breaker(counts)

    def score(part: Positions) -> Scores:
        scores = np.tile(fallback, (len(part), 1))
        own = history.select(part)
        np.add.at(scores, (own.owners, own.rows), np.float32(1))
        return scores

    return Baseline(history.n_lists, len(counts), score)


def looked_at(browsed: CSR, counts: Counts) -> Baseline:
    """The items the shopper browsed and did not take, most recent first, then overall popularity.

    `browsed` lists distinct rows for each request, the most recent last; see `Timeline.items_browsed`.
    """
    fallback = _tie_breaker(counts)

    def score(part: Positions) -> Scores:
        scores, own = np.tile(fallback, (len(part), 1)), browsed.select(part)
        scores[own.owners, own.rows] = 1 + np.arange(len(own.rows)) - own.indptr[own.owners]
        return scores

    return Baseline(browsed.n_lists, len(counts), score)


def item_knn(history: CSR, similar: csr_array, counts: Counts) -> Baseline:
    """Item-kNN: the sum of cosine similarities to the distinct items of the history, then overall popularity.

    `similar` is a sparse float32 [n_items, n_items], see `cooccurrence` (Deshpande and Karypis, TOIS 2004).
    """
    fallback = _tie_breaker(counts) - 1

    def score(part: Positions) -> Scores:
        scores: Scores = (incidence(history.select(part), len(counts)) @ similar).toarray()
        return np.where(scores > 0, scores, fallback)

    return Baseline(history.n_lists, len(counts), score)


def inner_product(queries: Vectors, items: Vectors, counts: Counts | None = None) -> Baseline:
    """Inner product of given vectors, of an untuned text encoder or of another model.

    `queries` is float32 [n_requests, dim] (query texts, `history_mean`, or user factors), `items` float32 [n_items,
    dim]. A request with a zero vector gets overall popularity, or an empty answer if `counts` is None.
    """
    fallback = np.full(len(items), -np.inf, np.float32) if counts is None else _tie_breaker(counts)

    def score(part: Positions) -> Scores:
        own = queries[part]
        known = (own != 0).any(axis=1, keepdims=True)
        return np.where(known, own @ items.T, fallback)

    return Baseline(len(queries), len(items), score)


def history_mean(history: CSR, items: Vectors) -> Vectors:
    """The unit mean vector of each request's distinct history items, float32 [n_requests, dim]; zero for none."""
    total = np.asarray(incidence(history, len(items)) @ items, np.float32)
    norms = np.sqrt(np.square(total).sum(axis=1, keepdims=True))
    unit: Vectors = total / np.maximum(norms, np.float32(1e-12))
    return unit


def histories(events: Events, requests: Requests, kinds: Sequence[str] | None = None) -> CSR:
    """The item rows of each request's earlier events of the given kinds (None: all), oldest first, with repeats."""
    start = events.offsets[requests.user]
    sizes = requests.end - start
    indptr = np.concatenate(([0], np.cumsum(sizes)))
    at = np.repeat(start - indptr[:-1], sizes) + np.arange(indptr[-1])
    rows = events.item[at].astype(np.int64)
    if kinds is None:
        return CSR(indptr, rows)
    kept = events.is_kind(kinds)[at]
    return CSR(np.concatenate(([0], np.cumsum(kept)))[indptr], rows[kept])


def targets_of(requests: Requests) -> CSR:
    """The target item rows of each request, as metrics take them."""
    return CSR(requests.target_ptr, requests.target_item.astype(np.int64))


def bm25(texts: Sequence[str], item_texts: Sequence[str], analyzer: Analyzer) -> Baseline:
    """BM25 (Lucene's variant and defaults) of query texts over item texts.

    Items that share no word with the query are never shown.
    """
    source = Lexical.of(item_texts, analyzer)

    def score(part: Positions) -> Scores:
        found = source.read(RequestBatch.of_texts([texts[query] for query in part]))
        scores = np.full((len(part), len(item_texts)), -np.inf, np.float32)
        scores[found.lists.owners, found.lists.rows] = found.values
        return scores

    return Baseline(len(texts), len(item_texts), score)


def event_baselines(
    events: Events, requests: Requests, split: EventSplit, n_items: int, *, item_vectors: Vectors | None = None
) -> dict[str, Baseline]:
    """All baselines of recommendation, by stage name.

    Popularity and item-kNN read the training events. Recent popularity reads all events before the request's day in a
    temporal split, and training events alone in leave_one_out. `looked_at` is there if any events are neither targets
    nor returns, `untuned_encoder` if `item_vectors` float32 [n_items, dim] are given.
    """
    counts = np.bincount(events.item[split.train_target], minlength=n_items)
    known = events.is_kind(split.target_events) if split.kind == "temporal" else split.train_target
    history = histories(events, requests)
    own = histories(events, requests, split.target_events)
    found = {
        "popularity": popularity(len(requests), counts),
        "popularity_7d": recent_popularity(requests, events, known, counts, days=7),
        "popularity_30d": recent_popularity(requests, events, known, counts, days=30),
        "own_frequency": own_frequency(own, counts),
        "item_knn": item_knn(history, cooccurrence(events, split.train, n_items), counts),
    }
    if (~events.is_kind(split.target_events) & ~events.is_return()).any():
        timeline, position = Timeline.from_events(events)
        taken = timeline.codes_of(split.target_events)
        found["looked_at"] = looked_at(timeline.items_browsed(requests.user, position[requests.end], taken), counts)
    if item_vectors is not None:
        found["untuned_encoder"] = inner_product(history_mean(history, item_vectors), item_vectors, counts)
    return found


def query_baselines(
    texts: Sequence[str],
    item_texts: Sequence[str],
    analyzer: Analyzer,
    *,
    query_vectors: Vectors | None = None,
    item_vectors: Vectors | None = None,
) -> dict[str, Baseline]:
    """All baselines of search, by stage name; `untuned_encoder` if its vectors are given, float32 [n, dim] each."""
    found = {"bm25": bm25(texts, item_texts, analyzer)}
    if query_vectors is not None and item_vectors is not None:
        found["untuned_encoder"] = inner_product(query_vectors, item_vectors)
    return found


def _tie_breaker(counts: Counts) -> Scores:
    """Popularity mapped to [0, 1) with order and ties kept, so that it decides only between equal integer scores."""
    distinct, rank = np.unique(counts, return_inverse=True)
    return (rank / (len(distinct) + 1)).astype(np.float32)
