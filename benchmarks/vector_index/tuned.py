"""`shortlist bench tuning`: the index that tuning picks, beside exact search: recall, time, memory, and under filters.

It is chosen, built, written and opened by the functions that `index build` and the engine use. One half of the queries
tunes it, the other half measures it. Both searches are timed in turn, so that a busy moment of the machine slows both.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import cycle
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple, TypeAlias

import numpy as np

from benchmarks.result_lines import Line
from indexing.ann.faiss_kinds import params_text
from indexing.ann.opening import SearchSpec, open_index
from indexing.ann.protocols import VectorIndex
from indexing.ann.recall import recalls, recalls_of
from indexing.tuning.build_index import AUTO, RECALL_AT, write_index
from indexing.tuning.filter_crossover import orders
from retrieval.topk import Hits, Mask, Vectors, exact_topk
from serving.cli.show import say

SHARES = (1.0, 0.3, 0.03, 0.003, 0.0001)  # of the items that a filter allows
K = 10  # hits of a filtered search
FEWEST = 8  # queries for a median, without the first one, a warm-up

Search: TypeAlias = Callable[[Vectors], Hits]


class Paired(NamedTuple):
    """Median milliseconds of two searches for the same queries."""

    ours: float
    exact: float


@dataclass(frozen=True)
class OpenedIndex:
    """An index as an engine opens it, with what its manifest has of it, and the seconds of tuning and building."""

    index: VectorIndex
    spec: SearchSpec
    size: int  # bytes
    why: str
    seconds: float


@dataclass(frozen=True, kw_only=True)
class TunedRun:
    """Items and queries, float32 [n, dim]; the items may be memory-mapped. `seconds`: for which each comparison
    runs."""

    items: Vectors
    queries: Vectors
    target: float
    memory: int | None = None
    seconds: float = 5.0
    seed: int = 0

    def lines(self) -> Iterator[Line]:
        """The index against exact search, then both under filters that allow ever fewer items."""
        with TemporaryDirectory() as folder:
            opened = self._opened(Path(folder) / "index.faiss")
        say(f"-- {opened.why}")
        yield self._whole(opened)
        for drawn, order in orders(self.items, np.random.default_rng(self.seed + 1)).items():
            for share in SHARES:
                count = max(1, round(share * len(self.items)))
                yield self._filtered(opened.index, drawn, order < count)

    def _opened(self, path: Path) -> OpenedIndex:
        begun = time.perf_counter()
        about = write_index(
            path,
            self.items,
            factory=AUTO,
            recall_target=self.target,
            memory=self.memory,
            queries=self.queries[::2],
            seed=self.seed,
            report=lambda stage, done, total: say(f"-- {stage}: {done:,} of {total:,}"),
        )
        seconds, spec = time.perf_counter() - begun, SearchSpec.of(about)
        index = open_index(
            path, self.items, factory=spec.factory, params=spec.params, exact_rows=spec.exact_rows, device="cpu"
        )
        choice, size = about["choice"], about["bytes"]
        assert isinstance(choice, dict)
        assert isinstance(size, int)
        return OpenedIndex(index, spec, size, str(choice["why"]), seconds)

    def _whole(self, opened: OpenedIndex) -> Line:
        index, k = opened.index, min(RECALL_AT, len(self.items))
        found = recalls(index, self._held, exact_topk(self._held, self.items, k))
        spent = self._paired(partial(index.search, k=k), partial(exact_topk, items=self.items, k=k))
        summary = {
            f"recall@{k}": float(found.mean()),
            "p50 ms": spent.ours,
            "exact p50 ms": spent.exact,
            "times quicker": spent.exact / spent.ours,
            "MB": opened.size / 1e6,
            "vectors MB": self.items.shape[0] * self.items.shape[1] * 4 / 1e6,
            "made in s": opened.seconds,
        }
        kind = opened.spec.factory
        labels = {"kind": kind, "effort": params_text(kind, opened.spec.params)}
        return Line(measured="tuned index", labels=labels, unit="figure", summary=summary)

    def _filtered(self, index: VectorIndex, drawn: str, allowed: Mask) -> Line:
        truth = exact_topk(self._held, self.items, K, allowed=allowed)
        found = index.search(self._held, K, allowed=allowed)
        spent = self._paired(
            partial(index.search, k=K, allowed=allowed), partial(exact_topk, items=self.items, k=K, allowed=allowed)
        )
        summary = {
            f"recall@{K}": float(recalls_of(found, truth).mean()),
            "disallowed": float(np.count_nonzero(~allowed[found.rows[found.rows >= 0]])),
            "p50 ms": spent.ours,
            "exact p50 ms": spent.exact,
            "of exact": spent.ours / spent.exact,
        }
        count = int(np.count_nonzero(allowed))
        labels = {"drawn": drawn, "allowed": f"{round(100 * count / len(allowed), 2):g} %", "items": f"{count:,}"}
        return Line(measured="tuned index, filtered", labels=labels, unit="figure", summary=summary)

    @cached_property
    def _held(self) -> Vectors:
        """The queries that did not tune the index, at least one."""
        return np.ascontiguousarray(self.queries[1::2] if len(self.queries) > 1 else self.queries)

    def _paired(self, ours: Search, exact: Search) -> Paired:
        """Both searches answer each query, each of them first in turn, until the time is over."""
        spent: dict[Search, list[float]] = {ours: [], exact: []}
        order = (ours, exact)
        begun = time.perf_counter()
        for at in cycle(range(len(self._held))):
            for search in order:
                sent = time.perf_counter()
                search(self._held[at : at + 1])
                spent[search].append(time.perf_counter() - sent)
            order = order[::-1]
            if len(spent[ours]) >= FEWEST and time.perf_counter() - begun >= self.seconds:
                break
        return Paired(*(1_000 * float(np.median(spent[search][1:])) for search in (ours, exact)))
