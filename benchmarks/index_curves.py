"""Recall against queries a second of every kind of index, drawn from a bundle's own vectors and real user vectors.

Recall is `indexing.tune.recall`; what is timed is what the engine calls, `GuardedIndex.search`, with exact scores.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple, TypeVar

import numpy as np

from benchmarks.other_indexes import OTHERS
from benchmarks.results import Line
from indexing.exact import ExactIndex
from indexing.faiss_index import Effort, FaissIndex, import_faiss
from indexing.guarded import GuardedIndex
from indexing.index import VectorIndex
from indexing.tune import recall
from retrieval.errors import BadConfig, MissingDependency
from retrieval.topk import Hits, Mask, Vectors, exact_topk
from serving.show import say

Built = TypeVar("Built")
K = 10
ALONE = 200  # queries asked one at a time, at most
FEWEST_PARTS = 8  # of a product quantiser: with fewer, half a byte each, nothing is left of a vector
QUEUES = (16, 32, 64, 128, 256, 512)  # of a graph
SHARES = (0.5, 0.1, 0.01)  # of the items, that a filter lets through


class Kind(NamedTuple):
    """A FAISS factory string and the efforts that it is tried with."""

    factory: str
    efforts: tuple[Effort, ...]


def kinds_for(n: int, dim: int) -> list[Kind]:
    """What is worth trying over n vectors of dim dimensions.

    >>> [kind.factory for kind in kinds_for(10_000, 64)]
    ['HNSW32', 'HNSW32_SQ8', 'IVF256,Flat', 'IVF256,SQ8', 'IVF256,PQ32x4fs,RFlat']
    """
    cells = 2 ** max(4, round(np.log2(4 * n**0.5) - 0.5))
    graph = tuple(Effort(ef_search=ef) for ef in QUEUES)
    lists = tuple(Effort(nprobe=probes) for probes in (1, 2, 4, 8, 16, 32, 64) if probes <= cells)
    refined = tuple(Effort(nprobe=probes, k_factor=8) for probes in (1, 4, 16, 64) if probes <= cells)
    found = [
        Kind("HNSW32", graph), Kind("HNSW32_SQ8", graph), Kind(f"IVF{cells},Flat", lists),
        Kind(f"IVF{cells},SQ8", lists),
    ]  # fmt: skip
    parts = max(part for part in range(1, max(1, dim // 2) + 1) if dim % part == 0)  # of a vector, coded apart
    return found + ([Kind(f"IVF{cells},PQ{parts}x4fs,RFlat", refined)] if parts >= FEWEST_PARTS else [])


@dataclass(frozen=True)
class IndexCurves:
    """Items and queries, float32 [n, dim]; `seconds` bounds the timing of one setting."""

    items: Vectors
    queries: Vectors
    seconds: float = 2.0

    def lines(self, kinds: Sequence[Kind] | None = None, sizes: Sequence[int] = ()) -> Iterator[Line]:
        """Exact search, every kind at every effort, other libraries where they are installed, filters, and growth."""
        truth = exact_topk(self.queries, self.items, K)
        yield from self._points("exact", "all vectors", ExactIndex(self.items), truth)
        built: dict[str, FaissIndex] = {}
        for kind in kinds_for(*self.items.shape) if kinds is None else kinds:
            say(f"-- {kind.factory}")
            try:
                built[kind.factory], seconds = _timed(partial(FaissIndex.build, self.items, kind.factory))
            except BadConfig as error:
                say(f"left out: {error}")
                continue
            yield build_line(kind.factory, len(self.items), seconds, _faiss_bytes(built[kind.factory]))
            for effort in kind.efforts:
                index = GuardedIndex(built[kind.factory].with_effort(effort), self.items)
                yield from self._points(kind.factory, said(kind.factory, effort), index, truth)
        for factory, bare in built.items():
            yield from self._filtered(factory, bare)
        yield from self._others(truth)
        yield from self._growth(list(built), sizes)

    def _points(self, kind: str, setting: str, index: VectorIndex, truth: Hits) -> Iterator[Line]:
        found = recall(index, self.queries, truth)
        for asked, rate in self._rates(partial(index.search, k=K)).items():
            labels = {"kind": kind, "setting": setting, "asked": asked}
            yield Line(measured="index", labels=labels, unit="figure", summary={"recall": found, "per second": rate})

    def _rates(self, search: Callable[[Vectors], object]) -> dict[str, float]:
        """Queries a second, one at a time and all at once."""
        alone = [self.queries[at : at + 1] for at in range(min(ALONE, len(self.queries)))]
        return {
            "one at a time": _rate(search, alone, self.seconds),
            f"{len(self.queries)} at once": _rate(search, [self.queries], self.seconds),
        }

    def _filtered(self, factory: str, bare: FaissIndex) -> Iterator[Line]:
        """The same under filters that let a random share of the items through."""
        guarded = GuardedIndex(bare, self.items)
        for share in SHARES:
            allowed: Mask = np.random.default_rng(0).random(len(self.items)) < share
            truth = exact_topk(self.queries, self.items, K, allowed=allowed)
            found = guarded.search(self.queries, K, allowed=allowed)
            right = (found.scores >= truth.scores[:, -1:] - 1e-5) & (found.rows >= 0)
            counts = np.count_nonzero(truth.rows >= 0)
            rates = self._rates(partial(guarded.search, k=K, allowed=allowed))
            labels = {"kind": factory, "allowed": f"{share:.0%}"}
            summary = {"recall": min(1.0, float(right.sum() / max(1, counts))), "per second": rates["one at a time"]}
            yield Line(measured="index, filtered", labels=labels, unit="figure", summary=summary)

    def _others(self, truth: Hits) -> Iterator[Line]:
        for name, build in OTHERS.items():
            say(f"-- {name}")
            try:
                index, seconds = _timed(partial(build, self.items))
            except MissingDependency as error:
                say(f"left out: {error}")
                continue
            yield build_line(name, len(self.items), seconds, None)
            for ef in QUEUES:
                other = index.with_ef(ef)
                yield from self._points(name, f"ef {ef}", GuardedIndex(other, self.items), truth)

    def _growth(self, factories: Sequence[str], sizes: Sequence[int]) -> Iterator[Line]:
        """Building and searching over the first so many items."""
        for size in sizes:
            part = np.ascontiguousarray(self.items[:size])
            for factory in factories:
                index, seconds = _timed(partial(FaissIndex.build, part, factory))
                guarded = GuardedIndex(index, part)
                rates = IndexCurves(part, self.queries, self.seconds)._rates(partial(guarded.search, k=K))
                found = recall(guarded, self.queries, exact_topk(self.queries, part, K))
                summary = {"build s": seconds, "MB": _faiss_bytes(index) / 1e6, "recall": found}
                labels = {"kind": factory, "items": str(size)}
                about: Mapping[str, float] = {**summary, "per second": rates["one at a time"]}
                yield Line(measured="index, growth", labels=labels, unit="figure", summary=about)


def build_line(kind: str, n: int, seconds: float, size: int | None) -> Line:
    """What building over n items took, and the bytes of the index beside the vectors, None where it does not say."""
    summary = {"build s": seconds, "items per second": n / max(seconds, 1e-9)}
    held = {} if size is None else {"MB": size / 1e6}
    return Line(measured="index, built", labels={"kind": kind}, unit="figure", summary={**summary, **held})


def said(factory: str, effort: Effort) -> str:
    """The effort that a kind reads.

    >>> said("HNSW32", Effort(ef_search=64)), said("IVF64,PQ32x4fs,RFlat", Effort(nprobe=4, k_factor=8))
    ('ef 64', 'nprobe 4, k_factor 8')
    """
    parts = [f"ef {effort.ef_search}"] if "HNSW" in factory else []
    parts += [f"nprobe {effort.nprobe}"] if "IVF" in factory else []
    parts += [f"k_factor {effort.k_factor:g}"] if "RFlat" in factory else []
    return ", ".join(parts)


def _rate(search: Callable[[Vectors], object], batches: Sequence[Vectors], seconds: float) -> float:
    """Queries answered a second: the batches in turn, after one of them unmeasured, until the time is over."""
    search(batches[0])
    begun, answered = time.perf_counter(), 0
    while True:
        for batch in batches:
            search(batch)
            answered += len(batch)
            if (spent := time.perf_counter() - begun) >= seconds:
                return answered / spent


def _timed(build: Callable[[], Built]) -> tuple[Built, float]:
    begun = time.perf_counter()
    found = build()
    return found, time.perf_counter() - begun


def _faiss_bytes(index: FaissIndex) -> int:
    """What FAISS would write of it."""
    return int(import_faiss().serialize_index(index.raw).nbytes)
