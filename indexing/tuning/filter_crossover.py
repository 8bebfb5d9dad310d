"""Measures how many items a filter must allow before an index is quicker than exact search over those items.

Items that pass a filter are seldom a random sample: those of a category lie close together, and often far from the
query, which is hard for an index that searches around the query. So the index is measured under filters that allow
random items, the items nearest to one of them, and the items farthest from it, and has to be right under all three.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import NamedTuple

import numpy as np

from indexing.ann.faiss_index import FaissIndex
from indexing.ann.guarded import GuardedIndex
from indexing.ann.recall import recalls_of
from indexing.bundle.manifest import JsonMap
from indexing.tuning.benchmark_index import SECONDS, Clock, Search, single_query_ms
from retrieval.topk import Hits, Mask, Rows, Vectors, exact_topk

HALVINGS = 8  # filters that allow half of the items, a quarter, and so on
N_QUERIES = 32  # queries that filtered search is measured with
WIDENINGS = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0)  # values of SearchParams.filtered, in the order in which they are tried


class FilterCost(NamedTuple):
    """What a query costs under three filters that allow `allowed` items each; the figures least good for the index."""

    allowed: int
    exact_ms: float  # median of exact search over the allowed items, under the filter where it is quickest
    index_ms: float  # median of the index, under the filter where it is slowest
    recall: float  # of the index, under the filter where it is lowest

    def index_wins(self, target: float) -> bool:
        """Whether the index is no slower than exact search and reaches the recall `target`."""
        return self.index_ms <= self.exact_ms and self.recall >= target


class Crossover(NamedTuple):
    """Filters that allow up to `exact_rows` items are answered by exact search, others by the index."""

    exact_rows: int
    filtered: float  # the index's SearchParams.filtered
    costs: tuple[FilterCost, ...]  # the filters that allow most first

    def total_ms(self, exact: Mapping[int, float]) -> float:
        """The milliseconds of one query under each size of filter in sum; `exact` maps a size to those of exact search.

        >>> costs = FilterCost(500, 9, 2, 0.97), FilterCost(250, 5, 3, 0.96)
        >>> Crossover(249, 1.0, costs).total_ms({500: 9, 250: 5, 125: 2})
        7
        """
        return sum(
            next((cost.index_ms for cost in self.costs if cost.allowed == allowed > self.exact_rows), alone)
            for allowed, alone in exact.items()
        )

    def to_json(self) -> JsonMap:
        """As a manifest records it."""
        return {"exact_rows": self.exact_rows, "costs": [cost._asdict() for cost in self.costs]}


class Filtered(NamedTuple):
    """A filter bool [n], the exact hits under it, and the median milliseconds of exact search."""

    mask: Mask
    truth: Hits
    exact_ms: float


@dataclass(frozen=True, kw_only=True)
class CrossoverMeter:
    """Measures filtered searches of an index over `vectors` float32 [n, dim] with `queries` float32 [q, dim].

    Where the index answers a filter, it has to reach recall@k of `target`. `seconds` is how long one setting is timed;
    `clock` returns seconds.
    """

    vectors: Vectors
    queries: Vectors
    k: int
    target: float
    seed: int = 0
    seconds: float = SECONDS
    clock: Clock = time.perf_counter

    def measure(self, index: FaissIndex) -> Crossover:
        """Halve the number of allowed items until exact search over them is quicker.

        While the index misses the recall, the next of WIDENINGS is tried; of those tried, the one under which all
        filters together cost least is taken.
        """
        filters: dict[int, list[Filtered]] = {}
        tried: list[Crossover] = []
        for filtered in WIDENINGS if index.can_filter else WIDENINGS[:1]:
            costs = tuple(self._costs(index.with_params(replace(index.params, filtered=filtered)), filters))
            tried.append(Crossover(exact_rows(costs, len(self.vectors), self.target), filtered, costs))
            if all(cost.recall >= self.target for cost in costs):
                break
        exact = {allowed: min(one.exact_ms for one in alike) for allowed, alike in filters.items()}
        return min(tried, key=lambda one: (one.total_ms(exact), one.exact_rows))

    def _costs(self, index: FaissIndex, filters: dict[int, list[Filtered]]) -> Iterator[FilterCost]:
        """Costs under ever stricter filters, up to the first that the index loses; new filters are added to
        `filters`."""
        guarded = GuardedIndex(index, self.vectors, exact_rows=0)
        for halving in range(1, HALVINGS + 1):
            allowed = len(self.vectors) >> halving
            if allowed < self.k:
                return
            if allowed not in filters:
                filters[allowed] = [self._filtered(order < allowed) for order in self._orders]
            found = [self._measured(guarded, one) for one in filters[allowed]]
            cost = FilterCost(
                allowed=allowed,
                exact_ms=min(one.exact_ms for one in filters[allowed]),
                index_ms=max(spent for spent, _ in found),
                recall=min(recall for _, recall in found),
            )
            yield cost
            if not cost.index_wins(self.target):
                return

    def _measured(self, index: GuardedIndex, one: Filtered) -> tuple[float, float]:
        """The median milliseconds and the mean recall of the index under a filter."""
        hits = index.search(self._queries, self.k, allowed=one.mask)
        return self._query_ms(partial(index.search, k=self.k, allowed=one.mask)), float(
            recalls_of(hits, one.truth).mean()
        )

    def _filtered(self, mask: Mask) -> Filtered:
        search = partial(exact_topk, items=self.vectors, k=self.k, allowed=mask)
        return Filtered(mask, search(self._queries), self._query_ms(search))

    def _query_ms(self, search: Search) -> float:
        return single_query_ms(search, self._queries, self.seconds, self.clock)

    @property
    def _queries(self) -> Vectors:
        return self.queries[:N_QUERIES]

    @cached_property
    def _orders(self) -> tuple[Rows, ...]:
        return tuple(orders(self.vectors, np.random.default_rng(self.seed)).values())


def orders(vectors: Vectors, rng: np.random.Generator) -> dict[str, Rows]:
    """The rank of each vector in three orders, int64 [n] each: random, nearest to one of the vectors first, and
    farthest first. A filter allows the first ranks of an order."""
    n = len(vectors)
    similarity = vectors @ vectors[rng.integers(n)]
    nearest = np.empty(n, np.int64)
    nearest[np.argsort(-similarity, kind="stable")] = np.arange(n)
    return {"at random": rng.permutation(n), "alike": nearest, "unlike": n - 1 - nearest}


def exact_rows(costs: Sequence[FilterCost], n: int, target: float) -> int:
    """The most allowed items, of n, that are searched exactly: one less than the fewest at which the index wins.

    `costs` are those of ever stricter filters. Between the last that the index wins and the first that it loses, exact
    search is taken: it misses nothing and is not much slower.

    >>> exact_rows([FilterCost(500, 9, 2, 0.97), FilterCost(250, 5, 3, 0.96), FilterCost(125, 2, 4, 1.0)], 1000, 0.95)
    249
    >>> exact_rows([FilterCost(500, 9, 2, 0.5)], 1000, 0.95)
    999
    """
    fewest = n
    for cost in costs:
        if not cost.index_wins(target):
            break
        fewest = cost.allowed
    return fewest - 1
