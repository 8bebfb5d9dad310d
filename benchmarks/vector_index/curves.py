"""Recall against queries a second of every kind of index, over a bundle's own item and user vectors.

The kinds, their search parameters and the loop that measures them are those of `indexing.tuning`, which chooses an
index.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial

import numpy as np

from benchmarks.result_lines import Line
from benchmarks.vector_index.other_libraries import OTHERS
from benchmarks.vector_index.synthetic import more_like
from indexing.ann.exact import ExactIndex
from indexing.ann.faiss_index import SearchParams
from indexing.ann.faiss_kinds import LINKS, cells_for, kinds_for, ladders_for, params_text
from indexing.ann.gpu import GpuIndex, runs_on_gpu
from indexing.ann.guarded import GuardedIndex
from indexing.ann.protocols import VectorIndex
from indexing.ann.recall import recalls_of
from indexing.tuning.benchmark_index import BuiltIndex, Meter, Point, exact_point, median_ms
from retrieval.errors import BadConfig, MissingDependency
from retrieval.topk import Hits, Mask, Vectors, exact_topk
from serving.cli.show import say

K = 10
EF_VALUES = (16, 32, 64, 128, 256, 512)  # of other libraries' graphs
SHARES = (0.5, 0.1, 0.01)  # of the items that a filter allows
GROWTH_FAMILIES = ("IVF,SQ8", f"HNSW{LINKS}_SQ8")  # families measured at other sizes, beside exact search


@dataclass(frozen=True)
class IndexCurves:
    """Items and queries, float32 [n, dim]. seconds: for which each setting is timed. gpu: whether to measure copies
    there. seed: of items that are generated to grow the index, see `synthetic.more_like`.
    """

    items: Vectors
    queries: Vectors
    seconds: float = 2.0
    gpu: bool = False
    seed: int = 0

    def lines(self, factories: Sequence[str] | None = None, sizes: Sequence[int] = ()) -> Iterator[Line]:
        """Exact search, every kind of index at all its search parameters, copies on the GPU, filters, other libraries
        where they are installed, and growth."""
        exact = exact_point(self.items, self.queries, K, seconds=self.seconds)
        yield from self._settings("exact", "all vectors", exact, ExactIndex(self.items))
        found: list[BuiltIndex] = []
        for factory in self._factories() if factories is None else factories:
            say(f"-- {factory}")
            try:
                built = BuiltIndex.over(self.items, factory)
            except BadConfig as error:
                say(f"left out: {error}")
                continue
            found.append(built)
            yield build_line(factory, len(self.items), built.seconds, built.bytes)
            for point in built.curve(self._meter, ladders_for(factory)):
                index = GuardedIndex(built.index.with_params(point.params), self.items)
                yield from self._settings(factory, params_text(factory, point.params) or "all codes", point, index)
        if self.gpu:
            yield from self._on_gpu([BuiltIndex.over(self.items, "Flat"), *found])
        yield from self._filtered(found)
        yield from self._others()
        yield from self._growth(sizes)

    def _factories(self) -> list[str]:
        """The kinds that tuning chooses from, and IVF of uncompressed vectors."""
        n = len(self.items)
        kinds = [kind.factory for kind in kinds_for(*self.items.shape)]
        return [*kinds, f"IVF{cells_for(n)},Flat"] if kinds else kinds

    @cached_property
    def _meter(self) -> Meter:
        return Meter.over(self.items, self.queries, K, seconds=self.seconds)

    def _settings(self, kind: str, setting: str, point: Point, index: VectorIndex) -> Iterator[Line]:
        """The rates of a setting, with queries one at a time and all in one call."""
        at_once = median_ms(partial(index.search, k=K), [self.queries], self.seconds)
        rates = {
            "one at a time": point.per_second,
            f"{len(self.queries)} at once": 1_000 * len(self.queries) / max(at_once, 1e-9),
        }
        for mode, rate in rates.items():
            labels = {"kind": kind, "setting": setting, "asked": mode}
            summary = {"recall": point.recall, "per second": rate}
            yield Line(measured="index", labels=labels, unit="figure", summary=summary)

    def _on_gpu(self, found: Sequence[BuiltIndex]) -> Iterator[Line]:
        """GPU copies of the indexes that can have one, at all their search parameters."""
        for built in found:
            if not runs_on_gpu(built.kind):
                continue
            say(f"-- {built.kind} on the GPU")
            for params in (params for ladder in ladders_for(built.kind) for params in ladder):
                index = GuardedIndex(GpuIndex.copy(built.index.with_params(params)), self.items)
                point = self._meter.point(index, built.kind, params, built.bytes, built.seconds)
                setting = params_text(built.kind, params) or "all codes"
                yield from self._settings(f"{built.kind} on the GPU", setting, point, index)

    def _filtered(self, found: Sequence[BuiltIndex]) -> Iterator[Line]:
        """Filters that allow a random share of the items: each index by itself (short answers are completed by exact
        search), and exact search over the allowed items. A release uses the faster one, see `filter_crossover`."""
        for share in SHARES:
            allowed: Mask = np.random.default_rng(0).random(len(self.items)) < share
            exact = partial(exact_topk, items=self.items, k=K, allowed=allowed)
            truth = exact(self.queries)
            searches: dict[str, Callable[[Vectors], Hits]] = {"exact, over the allowed": exact}
            for built in found:
                inside = GuardedIndex(built.index, self.items, exact_rows=0)
                searches[built.kind] = partial(inside.search, k=K, allowed=allowed)
            for kind, search in searches.items():
                recall = float(recalls_of(search(self.queries), truth).mean())
                summary = {"recall": recall, "per second": 1_000 / max(self._meter.query_ms(search), 1e-9)}
                labels = {"kind": kind, "allowed": f"{share:.0%}"}
                yield Line(measured="index, by filter", labels=labels, unit="figure", summary=summary)

    def _others(self) -> Iterator[Line]:
        for name, build in OTHERS.items():
            say(f"-- {name}")
            begun = time.perf_counter()
            try:
                index = build(self.items)
            except MissingDependency as error:
                say(f"left out: {error}")
                continue
            seconds = time.perf_counter() - begun
            yield build_line(name, len(self.items), seconds, index.bytes)
            for ef in EF_VALUES:
                guarded = GuardedIndex(index.with_ef(ef), self.items)
                point = self._meter.point(guarded, name, SearchParams(ef_search=ef), 0, seconds)
                yield from self._settings(name, f"ef {ef}", point, guarded)

    def _growth(self, sizes: Sequence[int]) -> Iterator[Line]:
        """Build and search at other sizes: over the first items, or with generated items where there are too few."""
        for size in sizes:
            say(f"-- {size:,} items")
            own, rng = self.items[:size], np.random.default_rng(self.seed)
            part = np.ascontiguousarray(np.concatenate([own, more_like(self.items, size - len(own), rng)]))
            meter = Meter.over(part, self.queries, K, seconds=self.seconds)
            about = {"made items": float(size - len(own))}
            exact = exact_point(part, self.queries, K, seconds=self.seconds)
            yield _growth_line("exact", size, exact, about)
            for kind in kinds_for(*part.shape):
                if kind.family in GROWTH_FAMILIES:
                    built = BuiltIndex.over(part, kind.factory)
                    yield _growth_line(kind.family, size, built.at(built.index.params, meter), about)


def _growth_line(kind: str, size: int, point: Point, about: Mapping[str, float]) -> Line:
    summary = {"build s": point.build_seconds, "MB": point.bytes / 1e6, "recall": point.recall}
    labels = {"kind": kind, "items": str(size)}
    every = {**summary, "per second": point.per_second, **about}
    return Line(measured="index, growth", labels=labels, unit="figure", summary=every)


def build_line(kind: str, n: int, seconds: float, size: int | None) -> Line:
    """The build of an index of n items; `size` is its bytes without the vectors, None where they are not known."""
    summary = {"build s": seconds, "items per second": n / max(seconds, 1e-9)}
    held = {} if size is None else {"MB": size / 1e6}
    return Line(measured="index, built", labels={"kind": kind}, unit="figure", summary={**summary, **held})
