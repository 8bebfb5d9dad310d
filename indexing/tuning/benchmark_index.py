"""The loop that measures indexes: recall against exact search and the time of single queries, setting by setting.

It times what the engine calls: `GuardedIndex.search`, with exact scores. Both the tuner and `shortlist bench index`
read the points that are measured here.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import cycle
from typing import NamedTuple, TypeAlias

import numpy as np

from indexing.ann.faiss_index import FaissIndex, SearchParams
from indexing.ann.faiss_kinds import EXACT, Ladder, params_read
from indexing.ann.guarded import GuardedIndex, hits_wanted
from indexing.ann.protocols import VectorIndex
from indexing.ann.recall import recalls
from indexing.bundle.manifest import JsonMap
from retrieval.topk import Hits, Vectors, exact_topk

ONE_SIDED_95 = 1.645  # standard errors from a mean to the end of its one-sided 95 % interval
MAX_QUERIES = 200  # queries that are timed one at a time, at most
MIN_CALLS = 8  # timed calls that a median needs
SECONDS = 0.1  # how long one setting is timed by default

Search: TypeAlias = Callable[[Vectors], object]
Clock: TypeAlias = Callable[[], float]


class Point(NamedTuple):
    """One kind of index with one set of search parameters, as measured over `rows` vectors."""

    kind: str  # a FAISS factory string
    params: SearchParams
    rows: int
    recall: float  # mean over queries, at the meter's k
    recall_low: float  # lower end of its one-sided 95 % interval
    milliseconds: float  # median of queries sent one at a time
    bytes: int  # in memory; for exact search, those of the vectors
    build_seconds: float

    @property
    def per_second(self) -> float:
        """Queries a second, sent one at a time."""
        return 1_000 / max(self.milliseconds, 1e-9)

    def to_json(self) -> JsonMap:
        """As a manifest records it, with the search parameters that the kind reads."""
        own = {name: value for name, value in self._asdict().items() if name != "params"}
        return {**own, **params_read(self.kind, self.params)}


@dataclass(frozen=True)
class Meter:
    """Measures indexes over `vectors` float32 [n, dim] with `queries` float32 [q, dim] and their exact hits `truth`.

    `seconds` is how long one setting is timed; `clock` returns seconds.
    """

    vectors: Vectors
    queries: Vectors
    truth: Hits
    seconds: float = SECONDS
    clock: Clock = time.perf_counter

    @classmethod
    def over(
        cls, vectors: Vectors, queries: Vectors, k: int, *, seconds: float = SECONDS, clock: Clock = time.perf_counter
    ) -> Meter:
        """A meter of recall@k, or of recall@n where there are fewer than k vectors; runs exact search for the truth."""
        truth = exact_topk(queries, vectors, min(k, len(vectors)))
        return cls(vectors, queries, truth, seconds, clock)

    @property
    def k(self) -> int:
        """Hits for each query."""
        return int(self.truth.rows.shape[1])

    def query_ms(self, search: Search) -> float:
        """The median milliseconds of its queries, sent one at a time."""
        return single_query_ms(search, self.queries, self.seconds, self.clock)

    def point(self, index: VectorIndex, kind: str, params: SearchParams, size: int, build_seconds: float) -> Point:
        """Measure an index of `size` bytes that took `build_seconds` to build."""
        found = recalls(index, self.queries, self.truth)
        spent = self.query_ms(lambda query: index.search(query, self.k))
        low = float(found.mean() - ONE_SIDED_95 * found.std() / np.sqrt(len(found)))
        return Point(kind, params, index.size, float(found.mean()), low, spent, size, build_seconds)


@dataclass(frozen=True)
class BuiltIndex:
    """An index over all vectors of a meter, its size in bytes and the seconds that it took to build."""

    kind: str
    index: FaissIndex
    bytes: int
    seconds: float

    @classmethod
    def over(cls, vectors: Vectors, factory: str, *, seed: int = 0, clock: Clock = time.perf_counter) -> BuiltIndex:
        """Build a kind of index; raises BadConfig as `FaissIndex.build` does."""
        begun = clock()
        index = FaissIndex.build(vectors, factory, seed=seed)
        return cls(factory, index, index.nbytes, clock() - begun)

    def at(self, params: SearchParams, meter: Meter) -> Point:
        """Measure it with one set of search parameters."""
        guarded = GuardedIndex(self.index.with_params(params), meter.vectors)
        return meter.point(guarded, self.kind, params, self.bytes, self.seconds)

    def backend_ms(self, params: SearchParams, meter: Meter) -> float:
        """The median milliseconds of the bare index, without scoring its hits again."""
        index = self.index.with_params(params)
        fetched = min(hits_wanted(index, meter.k), index.size)
        return meter.query_ms(lambda query: index.search(query, fetched))

    def curve(self, meter: Meter, ladders: Sequence[Ladder], *, until: float | None = None) -> Iterator[Point]:
        """Measure its points, ladder by ladder; stops at the first whose `recall_low` reaches `until`."""
        for ladder in ladders:
            for params in ladder:
                point = self.at(params, meter)
                yield point
                if until is not None and point.recall_low >= until:
                    return


def exact_point(
    vectors: Vectors, queries: Vectors, k: int, *, seconds: float = SECONDS, clock: Clock = time.perf_counter
) -> Point:
    """Measure exact search, whose recall is 1 by definition."""
    n, dim = vectors.shape
    spent = single_query_ms(lambda query: exact_topk(query, vectors, k), queries, seconds, clock)
    return Point(EXACT, SearchParams(), n, 1.0, 1.0, spent, 4 * n * dim, 0.0)


def single_query_ms(search: Search, queries: Vectors, seconds: float, clock: Clock = time.perf_counter) -> float:
    """The median milliseconds of the queries float32 [q, dim], sent one at a time."""
    return median_ms(search, [queries[at : at + 1] for at in range(min(MAX_QUERIES, len(queries)))], seconds, clock)


def median_ms(search: Search, batches: Sequence[Vectors], seconds: float, clock: Clock = time.perf_counter) -> float:
    """The median milliseconds of a call with the batches in turn, after a warm-up call, until `seconds` have passed."""
    search(batches[0])
    spent: list[float] = []
    begun = clock()
    for batch in cycle(batches):
        sent = clock()
        search(batch)
        done = clock()
        spent.append(done - sent)
        if done - begun >= seconds and len(spent) >= MIN_CALLS:
            break
    return 1_000 * float(np.median(spent))
