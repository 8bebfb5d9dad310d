"""The one loop that measures indexes: recall against exact search, and the time of single queries, effort by effort.

What is timed is what the engine calls, `GuardedIndex.search`, with exact scores; its choice of an index and
`shortlist bench index` both read the points that are measured here.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import cycle
from typing import NamedTuple, TypeAlias

import numpy as np

from indexing.ann.faiss_index import Effort, FaissIndex
from indexing.ann.faiss_kinds import EXACT, Ladder, efforts_of
from indexing.ann.guarded import GuardedIndex, hits_wanted
from indexing.ann.protocols import VectorIndex
from indexing.ann.recall import recalls
from indexing.bundle.manifest import JsonMap
from retrieval.topk import Hits, Vectors, exact_topk

SURE = 1.645  # standard errors below a mean: the lower end of its one-sided 95 % interval
ALONE = 200  # queries asked one at a time, at most
FEWEST_CALLS = 8  # of which a median is taken
TIMED = 0.1  # seconds that one setting is asked, if nothing else is said

Search: TypeAlias = Callable[[Vectors], object]
Clock: TypeAlias = Callable[[], float]


class Point(NamedTuple):
    """One setting of one kind of index, measured over `rows` vectors."""

    kind: str  # a FAISS factory string
    effort: Effort
    rows: int
    recall: float  # the mean over queries, at the meter's k
    surely: float  # the lower end of its one-sided 95 % interval
    milliseconds: float  # the median of a query asked alone
    bytes: int  # held in memory; of exact search, the vectors themselves
    build_seconds: float

    @property
    def per_second(self) -> float:
        """Queries answered a second, one at a time."""
        return 1_000 / max(self.milliseconds, 1e-9)

    def to_json(self) -> JsonMap:
        """As a manifest keeps it."""
        own = {name: value for name, value in self._asdict().items() if name != "effort"}
        return {**own, **efforts_of(self.kind, self.effort)}


@dataclass(frozen=True)
class Meter:
    """Measures indexes over `vectors` float32 [n, dim] by queries float32 [q, dim] whose `truth` is known.

    `seconds` is how long one setting is timed, `clock` gives seconds.
    """

    vectors: Vectors
    queries: Vectors
    truth: Hits
    seconds: float = TIMED
    clock: Clock = time.perf_counter

    @classmethod
    def over(
        cls, vectors: Vectors, queries: Vectors, k: int, *, seconds: float = TIMED, clock: Clock = time.perf_counter
    ) -> Meter:
        """A meter of recall@k, or at n where there are fewer vectors: exact search says what is right."""
        truth = exact_topk(queries, vectors, min(k, len(vectors)))
        return cls(vectors, queries, truth, seconds, clock)

    @property
    def k(self) -> int:
        """How many hits are asked for."""
        return int(self.truth.rows.shape[1])

    def alone(self, search: Search) -> float:
        """The median milliseconds of queries asked one at a time."""
        return alone_ms(search, self.queries, self.seconds, self.clock)

    def point(self, index: VectorIndex, kind: str, effort: Effort, size: int, build_seconds: float) -> Point:
        """An index measured."""
        found = recalls(index, self.queries, self.truth)
        spent = self.alone(lambda query: index.search(query, self.k))
        low = float(found.mean() - SURE * found.std() / np.sqrt(len(found)))
        return Point(kind, effort, index.size, float(found.mean()), low, spent, size, build_seconds)


@dataclass(frozen=True)
class BuiltIndex:
    """An index over all vectors of a meter, what it holds and how long it took to build."""

    kind: str
    index: FaissIndex
    bytes: int
    seconds: float

    @classmethod
    def over(cls, vectors: Vectors, factory: str, *, seed: int = 0, clock: Clock = time.perf_counter) -> BuiltIndex:
        """Build a kind; raises BadConfig as `FaissIndex.build` does."""
        begun = clock()
        index = FaissIndex.build(vectors, factory, seed=seed)
        return cls(factory, index, index.nbytes, clock() - begun)

    def at(self, effort: Effort, meter: Meter) -> Point:
        """Measured with one effort."""
        guarded = GuardedIndex(self.index.with_effort(effort), meter.vectors)
        return meter.point(guarded, self.kind, effort, self.bytes, self.seconds)

    def searching_ms(self, effort: Effort, meter: Meter) -> float:
        """The median milliseconds of the index alone, before its hits are scored again."""
        index = self.index.with_effort(effort)
        fetched = min(hits_wanted(index, meter.k), index.size)
        return meter.alone(lambda query: index.search(query, fetched))

    def curve(self, meter: Meter, ladders: Sequence[Ladder], *, until: float | None = None) -> Iterator[Point]:
        """Its points, ladder by ladder, up to the one whose recall is surely `until`: more effort only costs."""
        for ladder in ladders:
            for effort in ladder:
                point = self.at(effort, meter)
                yield point
                if until is not None and point.surely >= until:
                    return


def exact_point(
    vectors: Vectors, queries: Vectors, k: int, *, seconds: float = TIMED, clock: Clock = time.perf_counter
) -> Point:
    """Exact search measured: it is right by definition, and reads every vector."""
    n, dim = vectors.shape
    spent = alone_ms(lambda query: exact_topk(query, vectors, k), queries, seconds, clock)
    return Point(EXACT, Effort(), n, 1.0, 1.0, spent, 4 * n * dim, 0.0)


def alone_ms(search: Search, queries: Vectors, seconds: float, clock: Clock = time.perf_counter) -> float:
    """The median milliseconds of queries asked one at a time."""
    return median_ms(search, [queries[at : at + 1] for at in range(min(ALONE, len(queries)))], seconds, clock)


def median_ms(search: Search, batches: Sequence[Vectors], seconds: float, clock: Clock = time.perf_counter) -> float:
    """The median milliseconds of a call: the batches in turn, after one unmeasured, until the time is over."""
    search(batches[0])
    spent: list[float] = []
    begun = clock()
    for batch in cycle(batches):
        asked = clock()
        search(batch)
        answered = clock()
        spent.append(answered - asked)
        if answered - begun >= seconds and len(spent) >= FEWEST_CALLS:
            break
    return 1_000 * float(np.median(spent))
