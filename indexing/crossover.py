"""Which filters an index answers by itself, and which exact search over the allowed answers, by measured cost."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import NamedTuple

import numpy as np

from indexing.faiss_index import FaissIndex
from indexing.guarded import GuardedIndex
from indexing.manifest import JsonMap
from indexing.measure import Clock, Meter, recalls_of
from retrieval.topk import Mask, Vectors, exact_topk

HALVINGS = 8  # filters that allow half of the items, a quarter, and so on
ASKED = 32  # queries on which the recall of a filtered search is measured
WIDENINGS = (1.0, 2.0, 4.0, 8.0)  # of the effort under a filter, the lowest that serves is taken


class FilterCost(NamedTuple):
    """What a query costs under a filter that allows so many items, drawn at random."""

    allowed: int
    exact_ms: float  # the median of exact search over the allowed
    index_ms: float  # of the index, with whatever its answers are completed by
    recall: float  # of the index

    def won(self, target: float) -> bool:
        """Whether the index is the quicker one, and finds enough."""
        return self.index_ms <= self.exact_ms and self.recall >= target


class Crossover(NamedTuple):
    """Filters that allow up to `exact_rows` items are answered by exact search over them, others by the index."""

    exact_rows: int
    filtered: float  # see `Effort`
    costs: tuple[FilterCost, ...]  # the loosest filter first

    def to_json(self) -> JsonMap:
        """As a manifest keeps it."""
        return {"exact_rows": self.exact_rows, "costs": [cost._asdict() for cost in self.costs]}


class Filtered(NamedTuple):
    """A filter, and what exact search does under it."""

    mask: Mask
    meter: Meter
    exact_ms: float


@dataclass(frozen=True, kw_only=True)
class CrossoverMeter:
    """Measures filtered searches of an index over `vectors` float32 [n, dim] by `queries` float32 [q, dim].

    Under a filter that the index is to answer, it has to reach the recall `target` at k. `clock` gives seconds.
    """

    vectors: Vectors
    queries: Vectors
    k: int
    target: float
    seed: int = 0
    clock: Clock = time.perf_counter

    def measure(self, index: FaissIndex) -> Crossover:
        """Halve the allowed items until exact search over them is quicker.

        As long as the index finds too little, it is tried with more effort; what leaves the fewest filters to exact
        search is taken.
        """
        filters = [self._filter(mask) for mask in self._masks()]
        best = Crossover(len(self.vectors), 1.0, ())
        for filtered in WIDENINGS:
            costs = tuple(self._costs(index.with_effort(replace(index.effort, filtered=filtered)), filters))
            rows = exact_rows(costs, len(self.vectors), self.target)
            best = Crossover(rows, filtered, costs) if rows < best.exact_rows else best
            if all(cost.recall >= self.target for cost in costs):
                break
        return best

    def _costs(self, index: FaissIndex, filters: Sequence[Filtered]) -> Iterator[FilterCost]:
        guarded = GuardedIndex(index, self.vectors, exact_rows=0)
        for mask, meter, exact_ms in filters:
            found = guarded.search(meter.queries, meter.k, allowed=mask)
            spent = meter.alone(partial(guarded.search, k=self.k, allowed=mask))
            recall = float(recalls_of(found, meter.truth).mean())
            yield (cost := FilterCost(int(np.count_nonzero(mask)), exact_ms, spent, recall))
            if not cost.won(self.target):
                return

    def _filter(self, mask: Mask) -> Filtered:
        queries = self.queries[:ASKED]
        truth = exact_topk(queries, self.vectors, self.k, allowed=mask)
        meter = Meter(self.vectors, queries, truth, clock=self.clock)
        spent = meter.alone(partial(exact_topk, items=self.vectors, k=self.k, allowed=mask))
        return Filtered(mask, meter, spent)

    def _masks(self) -> Iterator[Mask]:
        """Masks that allow half of the items, a quarter, and so on, as long as they allow k."""
        n = len(self.vectors)
        order = np.random.default_rng(self.seed).permutation(n)
        for halving in range(1, HALVINGS + 1):
            if n >> halving >= self.k:
                yield order < n >> halving


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
