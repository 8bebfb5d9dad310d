"""Which filters an index answers by itself, and which exact search over the allowed answers, by measured cost.

What a filter allows is seldom drawn at random: a category lies together, and mostly elsewhere than who asks. An index
looks where the question is, so that it is measured under filters that allow items drawn at random, those most like one
of them, and those least like it, and has to serve under all three.
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
from indexing.tuning.benchmark_index import TIMED, Clock, Search, alone_ms
from retrieval.topk import Hits, Mask, Rows, Vectors, exact_topk

HALVINGS = 8  # filters that allow half of the items, a quarter, and so on
ASKED = 32  # queries on which the recall of a filtered search is measured
WIDENINGS = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0)  # of the effort under a filter, in the order in which they are tried


class FilterCost(NamedTuple):
    """What a query costs under filters that allow so many items: the worst of them for the index."""

    allowed: int
    exact_ms: float  # the median of exact search over the allowed, where it is quickest
    index_ms: float  # of the index, with whatever its answers are completed by, where it is slowest
    recall: float  # of the index, where it is lowest

    def won(self, target: float) -> bool:
        """Whether the index is the quicker one, and finds enough."""
        return self.index_ms <= self.exact_ms and self.recall >= target


class Crossover(NamedTuple):
    """Filters that allow up to `exact_rows` items are answered by exact search over them, others by the index."""

    exact_rows: int
    filtered: float  # see `Effort`
    costs: tuple[FilterCost, ...]  # the loosest filter first

    def spent(self, exact: Mapping[int, float]) -> float:
        """Milliseconds of one query under each filter, of which `exact` tells what exact search takes, by items.

        >>> costs = FilterCost(500, 9, 2, 0.97), FilterCost(250, 5, 3, 0.96)
        >>> Crossover(249, 1.0, costs).spent({500: 9, 250: 5, 125: 2})
        7
        """
        return sum(
            next((cost.index_ms for cost in self.costs if cost.allowed == allowed > self.exact_rows), alone)
            for allowed, alone in exact.items()
        )

    def to_json(self) -> JsonMap:
        """As a manifest keeps it."""
        return {"exact_rows": self.exact_rows, "costs": [cost._asdict() for cost in self.costs]}


class Filtered(NamedTuple):
    """A filter, and what exact search finds under it and takes."""

    mask: Mask
    truth: Hits
    exact_ms: float


@dataclass(frozen=True, kw_only=True)
class CrossoverMeter:
    """Measures filtered searches of an index over `vectors` float32 [n, dim] by `queries` float32 [q, dim].

    Under a filter that the index is to answer, it has to reach the recall `target` at k. `seconds` is how long one
    setting is timed, by the `clock`, which gives seconds.
    """

    vectors: Vectors
    queries: Vectors
    k: int
    target: float
    seed: int = 0
    seconds: float = TIMED
    clock: Clock = time.perf_counter

    def measure(self, index: FaissIndex) -> Crossover:
        """Halve the allowed items until exact search over them is quicker.

        As long as the index finds too little, it is tried with more effort; that effort is taken with which all of the
        filters together cost least.
        """
        filters: dict[int, list[Filtered]] = {}
        tried: list[Crossover] = []
        for filtered in WIDENINGS if index.can_filter else WIDENINGS[:1]:
            costs = tuple(self._costs(index.with_effort(replace(index.effort, filtered=filtered)), filters))
            tried.append(Crossover(exact_rows(costs, len(self.vectors), self.target), filtered, costs))
            if all(cost.recall >= self.target for cost in costs):
                break
        exact = {allowed: min(one.exact_ms for one in alike) for allowed, alike in filters.items()}
        return min(tried, key=lambda one: (one.spent(exact), one.exact_rows))

    def _costs(self, index: FaissIndex, filters: dict[int, list[Filtered]]) -> Iterator[FilterCost]:
        """Costs under ever stricter filters, to the first that the index loses; filters that are new are kept."""
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
            if not cost.won(self.target):
                return

    def _measured(self, index: GuardedIndex, one: Filtered) -> tuple[float, float]:
        """Milliseconds and recall of the index under a filter."""
        hits = index.search(self._asked, self.k, allowed=one.mask)
        return self._alone(partial(index.search, k=self.k, allowed=one.mask)), float(recalls_of(hits, one.truth).mean())

    def _filtered(self, mask: Mask) -> Filtered:
        search = partial(exact_topk, items=self.vectors, k=self.k, allowed=mask)
        return Filtered(mask, search(self._asked), self._alone(search))

    def _alone(self, search: Search) -> float:
        return alone_ms(search, self._asked, self.seconds, self.clock)

    @property
    def _asked(self) -> Vectors:
        return self.queries[:ASKED]

    @cached_property
    def _orders(self) -> tuple[Rows, ...]:
        return tuple(orders(self.vectors, np.random.default_rng(self.seed)).values())


def orders(vectors: Vectors, rng: np.random.Generator) -> dict[str, Rows]:
    """The place of each vector in three orders, int64 [n], the first of which a filter allows: drawn at random, most
    like one of them, least like it."""
    n = len(vectors)
    likeness = vectors @ vectors[rng.integers(n)]
    nearest = np.empty(n, np.int64)
    nearest[np.argsort(-likeness, kind="stable")] = np.arange(n)
    return {"at random": rng.permutation(n), "alike": nearest, "unlike": n - 1 - nearest}


def exact_rows(costs: Sequence[FilterCost], n: int, target: float) -> int:
    """The most allowed items of n that are searched exactly: all that are fewer than the fewest that the index won.

    Costs are those of ever stricter filters. Between the last that the index won and the first that it lost, exact
    search is right for certain and not much slower.

    >>> exact_rows([FilterCost(500, 9, 2, 0.97), FilterCost(250, 5, 3, 0.96), FilterCost(125, 2, 4, 1.0)], 1000, 0.95)
    249
    >>> exact_rows([FilterCost(500, 9, 2, 0.5)], 1000, 0.95)
    999
    """
    fewest = n
    for cost in costs:
        if not cost.won(target):
            break
        fewest = cost.allowed
    return fewest - 1
