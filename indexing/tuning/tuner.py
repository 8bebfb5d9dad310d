"""Chooses the kind of an index and its search parameters by measuring recall against exact search, time and memory.

Exact search is taken where it is quick enough. Otherwise every kind that fits the memory is built and measured over a
sample of the vectors, and its time is scaled to all of them; the kind with the shortest expected time is built over all
vectors and its search parameters are fitted, and the next kind only where that one fails. So a choice costs a fraction
of a build.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple, TypeAlias

import numpy as np
from rich.filesize import decimal

from indexing.ann.faiss_index import FaissIndex
from indexing.ann.faiss_kinds import EXACT, Kind, kinds_for, ladders_for, params_text, scaled_ms
from indexing.tuning.benchmark_index import SECONDS, BuiltIndex, Clock, Meter, Point, exact_point
from retrieval.topk import Vectors

SCAN_BYTES = 100_000_000  # vectors up to this size are searched exactly: 4 ms at the 26 GB/s of one core
SAMPLE_ROWS = 16_384  # vectors over which every kind is measured first
HALVINGS = 2  # bisections between parameters that miss the recall and the next that reach it
EQUAL_WITHIN = 1.25  # kinds whose expected times differ by less are equal, and the smallest of them is taken

Progress: TypeAlias = Callable[[str, int, int], None]  # the stage, steps done, steps in all


@dataclass(frozen=True)
class Chosen:
    """The index that was chosen, and what was measured for the choice."""

    point: Point  # measured over all vectors
    index: FaissIndex | None  # None: exact search
    curve: tuple[Point, ...]  # every point that was measured, over the sample and over all vectors
    why: str  # the reason in words

    @property
    def kind(self) -> str:
        """The FAISS factory string."""
        return self.point.kind


class Trial(NamedTuple):
    """A kind that was built and measured over the sample."""

    kind: Kind  # over all vectors
    built: BuiltIndex
    points: tuple[Point, ...]
    expected: float  # milliseconds of a query over all vectors; infinite where the sample's recall misses the target


@dataclass(frozen=True, kw_only=True)
class Tuner:
    """Finds the quickest index over `vectors` float32 [n, dim] that reaches recall@k of `target` in `memory` bytes.

    It is measured with `queries` float32 [q, dim], sent one at a time. `memory` None is no limit; exact search counts
    with all its vectors, although they are memory-mapped from a file. `thorough` measures every kind at all its search
    parameters, for people to look at; the choice stays the same. The same vectors and `seed` give the same samples.
    `seconds` is how long one setting is timed; `clock` returns seconds.
    """

    vectors: Vectors
    queries: Vectors
    k: int
    target: float
    memory: int | None = None
    seed: int = 0
    thorough: bool = False
    seconds: float = SECONDS
    clock: Clock = time.perf_counter

    def choose(self, progress: Progress) -> Chosen:
        """Choose an index; exact search where no other reaches the target within the memory and is quicker.

        `progress` is called with the stage, and how many of its steps are done.
        """
        exact = self._exact
        quick = exact.bytes <= SCAN_BYTES and self._fits(exact.bytes)
        if quick and not self.thorough:
            return Chosen(exact, None, (exact,), _why_scan(exact))
        trials = self._trials(progress)
        measured = [exact, *(point for trial in trials for point in trial.points)]
        if quick:
            return Chosen(exact, None, tuple(measured), _why_scan(exact))
        over = [kind for kind in self._kinds if not self._fits(kind.bytes)]
        for trial in most_promising(trials):
            progress("index", 0, len(self.vectors))
            built, points = self._built_whole(trial)
            measured += points
            taken = fastest(points, self.target)
            if taken is not None and self._fits(taken.bytes) and self._beats(taken, exact):
                others = {one.kind.factory: one.expected for one in trials if one is not trial}
                why = _why_taken(taken, self.k, exact, others, over, self.memory)
                return Chosen(taken, built.index.with_params(taken.params), tuple(measured), why)
        return Chosen(exact, None, tuple(measured), _why_exact(measured, self.k, self.target, over, self.memory))

    def fit(self, factory: str) -> Chosen:
        """Build the given kind, with the quickest parameters that reach the target, else those of the highest recall.

        Raises BadConfig where it cannot be built.
        """
        if factory == EXACT:
            return Chosen(self._exact, None, (self._exact,), _why_fixed(self._exact, self.k))
        built = BuiltIndex.over(self.vectors, factory, seed=self.seed, clock=self.clock)
        points = self._fitted(built, list(self._curve(built, self._meter)))
        taken = fastest(points, self.target) or max(points, key=lambda point: point.recall)
        why = _why_fixed(taken, self.k)
        return Chosen(taken, built.index.with_params(taken.params), tuple(points), why)

    @cached_property
    def _meter(self) -> Meter:
        return Meter.over(self.vectors, self.queries, self.k, seconds=self.seconds, clock=self.clock)

    @cached_property
    def _sample(self) -> Meter:
        """A meter over a sample of the vectors, or over all where the sample would be half of them or more."""
        n = len(self.vectors)
        if n <= 2 * SAMPLE_ROWS:
            return self._meter
        rows = np.sort(np.random.default_rng(self.seed).choice(n, SAMPLE_ROWS, replace=False))
        part = np.ascontiguousarray(self.vectors[rows], np.float32)
        return Meter.over(part, self.queries, self.k, seconds=self.seconds, clock=self.clock)

    @cached_property
    def _exact(self) -> Point:
        return exact_point(self.vectors, self.queries, self.k, seconds=self.seconds, clock=self.clock)

    @cached_property
    def _kinds(self) -> Sequence[Kind]:
        return kinds_for(*self.vectors.shape)

    def _fits(self, size: int) -> bool:
        return self.memory is None or size <= self.memory

    def _beats(self, point: Point, exact: Point) -> bool:
        return point.milliseconds < exact.milliseconds or not self._fits(exact.bytes)

    def _trials(self, progress: Progress) -> list[Trial]:
        """Measure every kind that should fit the memory over the sample."""
        kinds = [kind for kind in self._kinds if self._fits(kind.bytes)]
        small = {kind.family: kind for kind in kinds_for(*self._sample.vectors.shape)}
        trials: list[Trial] = []
        for at, kind in enumerate(kinds):
            progress("choose", at, len(kinds))
            trials.append(self._trial(kind, small[kind.family]))
        progress("choose", len(kinds), len(kinds))
        return trials

    def _trial(self, kind: Kind, small: Kind) -> Trial:
        meter = self._sample
        built = BuiltIndex.over(meter.vectors, small.factory, seed=self.seed, clock=self.clock)
        points = tuple(self._curve(built, meter))
        taken = fastest(points, self.target)
        if taken is None:
            return Trial(kind, built, points, math.inf)
        alone = built.backend_ms(taken.params, meter)
        whole = scaled_ms(alone, kind.growth, len(meter.vectors), len(self.vectors))
        return Trial(kind, built, points, max(0.0, taken.milliseconds - alone) + whole)

    def _built_whole(self, trial: Trial) -> tuple[BuiltIndex, list[Point]]:
        """Build a kind over all vectors, and measure it."""
        if self._sample is self._meter:
            return trial.built, self._fitted(trial.built, list(trial.points))
        built = BuiltIndex.over(self.vectors, trial.kind.factory, seed=self.seed, clock=self.clock)
        return built, self._fitted(built, list(self._curve(built, self._meter)))

    def _curve(self, built: BuiltIndex, meter: Meter) -> Sequence[Point]:
        return [*built.curve(meter, ladders_for(built.kind), until=None if self.thorough else self.target)]

    def _fitted(self, built: BuiltIndex, points: list[Point]) -> list[Point]:
        """The points, and further ones between the quickest that reaches the target and the one before, which misses
        it."""
        taken = fastest(points, self.target)
        at = points.index(taken) if taken is not None else 0
        if at == 0 or not points[at - 1].params.below(points[at].params):
            return points
        low, high = points[at - 1].params, points[at].params
        for _ in range(HALVINGS):
            between = low.halfway(high)
            if between in (low, high):
                break
            points.append(built.at(between, self._meter))
            low, high = (low, between) if points[-1].recall_low >= self.target else (between, high)
        return points


def fastest(points: Sequence[Point], target: float) -> Point | None:
    """The quickest point whose `recall_low` reaches the target, else the quickest whose `recall` does, else None."""
    sure = [point for point in points if point.recall_low >= target]
    reaching = sure or [point for point in points if point.recall >= target]
    return min(reaching, key=lambda point: point.milliseconds) if reaching else None


def most_promising(trials: Sequence[Trial]) -> list[Trial]:
    """The trials that reach the recall, by expected time; of those as quick as the first, the smallest comes first."""
    reaching = [trial for trial in trials if math.isfinite(trial.expected)]
    best = min((trial.expected for trial in reaching), default=0.0)

    def order(trial: Trial) -> tuple[bool, float]:
        near = trial.expected <= EQUAL_WITHIN * best
        return not near, trial.kind.bytes if near else trial.expected

    return sorted(reaching, key=order)


def _why_scan(exact: Point) -> str:
    """Exact search was taken because it is quick enough."""
    return f"exact search reads {decimal(exact.bytes)} of vectors in {exact.milliseconds:.3g} ms, which is quick enough"


def _why_taken(
    point: Point, k: int, exact: Point, others: Mapping[str, float], over: Sequence[Kind], memory: int | None
) -> str:
    """A kind reached the target; `others` are the expected milliseconds of the kinds that were built over a sample
    only, infinite where their recall fell short there, and `over` the kinds that do not fit the memory."""
    ranked = sorted((spent, kind) for kind, spent in others.items() if math.isfinite(spent))
    expected = [f"{kind} {spent:.3g} ms" for spent, kind in ranked]
    missing = [kind for kind, spent in others.items() if not math.isfinite(spent)]
    parts = [describe(point, k), f"exact search takes {exact.milliseconds:.3g} ms and {decimal(exact.bytes)}"]
    parts += [f"expected of others: {', '.join(expected)}"] if expected else []
    parts += [f"too little recall on a sample: {', '.join(missing)}"] if missing else []
    return "; ".join([*parts, *_too_large(over, memory)])


def _why_exact(points: Sequence[Point], k: int, target: float, over: Sequence[Kind], memory: int | None) -> str:
    """No kind reaches the target in the memory and is quicker than exact search, which is therefore taken."""
    exact, tried = points[0], [point for point in points if point.kind != EXACT]
    spent = f"exact search, {exact.milliseconds:.3g} ms and {decimal(exact.bytes)} of vectors read from their file"
    best = [f"the best was {describe(max(tried, key=lambda point: point.recall), k)}"] if tried else []
    reach = f"nothing else reaches recall@{k} of {target:g} sooner"
    return "; ".join([spent, reach, *best, *_too_large(over, memory)])


def _why_fixed(point: Point, k: int) -> str:
    """The kind was given by the caller."""
    return f"set; {describe(point, k)}"


def describe(point: Point, k: int) -> str:
    """A point in words: its kind and search parameters, recall@k, milliseconds and size."""
    params = params_text(point.kind, point.params)
    setting = f"{point.kind} at {params}" if params else point.kind
    return f"{setting}: recall@{k} {point.recall:.3f} in {point.milliseconds:.3g} ms, {decimal(point.bytes)}"


def _too_large(over: Sequence[Kind], memory: int | None) -> list[str]:
    if memory is None or not over:
        return []
    sizes = ", ".join(f"{kind.factory} {decimal(kind.bytes)}" for kind in over)
    return [f"over the memory of {decimal(memory)}: {sizes}"]
