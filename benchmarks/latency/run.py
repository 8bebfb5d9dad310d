"""`shortlist bench latency`: the whole measurement of a bundle; and two bundles timed in turn."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np

from benchmarks.changes import Change, changes
from benchmarks.latency.by_stage import Limits, cold_starts, load_lines, stage_lines
from benchmarks.latency.compare import interleaved, line_pairs
from benchmarks.latency.workload import CallPool, Workload, canary_queries, is_reranked, load_kind
from benchmarks.result_lines import Line, sampled
from benchmarks.sweep import EFFECT_WITHOUT_RERANKING, EngineOptions, Sweep, open_engine, run_in_process
from indexing.bundle.bundle import Bundle
from retrieval.encoders.runtime import available_cores
from serving.cli.show import say
from serving.internals import Engine

PAIRS = 2_000  # calls of a kind that each of two engines answers at most


@dataclass(frozen=True)
class LatencyRun:
    """A bundle and how much of it is measured. `call` is the kind of call that load and sweeps are measured with;
    `bound` the p99 in ms that the highest rate has to keep."""

    bundle: Path
    limits: Limits
    device: str = "auto"
    seed: int = 0
    bound: float = 50.0
    call: str | None = None

    @cached_property
    def workload(self) -> Workload:
        """What the calls are about."""
        canaries = canary_queries(Bundle.open(self.bundle), self._engine)
        return Workload.sample(self._engine, self.limits.calls, np.random.default_rng(self.seed), canaries)

    @cached_property
    def kind(self) -> str:
        """The kind of call that load and sweeps are measured with. Raises BadConfig where the release cannot answer
        it."""
        return load_kind(self.call, self._pools, self._engine.state.reranks)

    def lines(self, sweeps: Sequence[Sweep] = (), *, load: bool = True) -> Iterator[Line]:
        """Cold starts, every kind of call by stage, one kind under load, and the sweeps over settings."""
        kind = self.kind
        say("-- first answers of fresh processes")
        for call, request in self.workload.first_requests().items():
            seconds = cold_starts(self.bundle, request, device=self.device, runs=self.limits.cold)
            yield sampled("first answer of a process", {"call": call}, "s", seconds)
        say("-- one caller")
        yield from stage_lines(self._pools, self.limits, {})
        if load:
            say(f"-- {kind} under load")
            yield from load_lines(
                kind,
                self._pools[kind],
                self.limits,
                workers=available_cores(),
                bound=self.bound,
                rng=np.random.default_rng(self.seed),
            )
        for sweep in sweeps:
            yield from self._sweep_lines(sweep)

    def _sweep_lines(self, sweep: Sweep) -> Iterator[Line]:
        """One kind of call at every value of a setting."""
        state = self._engine.state
        second_stage = state.reranks | state.scores if sweep.name == "rerank" else state.reranks
        if sweep.name in EFFECT_WITHOUT_RERANKING and not is_reranked(second_stage, self.kind):
            say(f"-- {sweep.name}: {self.kind} is not reranked, so {sweep.name} {EFFECT_WITHOUT_RERANKING[sweep.name]}")
        for value, options in zip(sweep.values, sweep.options(), strict=True):
            say(f"-- {sweep.name} {value}")
            if options.threads is not None:
                points = {value: self._measure_on_cores(options.threads)}
            else:
                pools = self._sweep_pools(value, options)
                points = {name: list(stage_lines({self.kind: pool}, self.limits, {})) for name, pool in pools.items()}
            for name, found in points.items():
                labels = {"setting": sweep.name, "value": name}
                yield from (replace(line, measured="sweep", labels=labels | dict(line.labels)) for line in found)

    def _sweep_pools(self, value: str, options: EngineOptions) -> Mapping[str, CallPool]:
        """The calls for one value of a setting; with filters once with an empty cache of filter masks and once with a
        full one."""
        engine = open_engine(self.bundle, options, self.device)
        calls = self.workload.calls(engine, options)[self.kind]
        warm = CallPool(calls, engine.state.query_vectors.forget)
        if not options.filters:
            return {value: warm}
        return {f"{value}, first": CallPool(calls, engine.state.forget, always=True), f"{value}, cached": warm}

    def _measure_on_cores(self, threads: int) -> list[Line]:
        options = ["--no-load", "--quick", "--seconds", str(self.limits.seconds)]
        options += ["--seed", str(self.seed), "--device", self.device]
        found = run_in_process(["latency", str(self.bundle), *options], threads)
        return [line for line in found if line.measured == "latency" and line.labels["call"] == self.kind]

    @cached_property
    def _engine(self) -> Engine:
        return open_engine(self.bundle, EngineOptions(), self.device)

    @cached_property
    def _pools(self) -> Mapping[str, CallPool]:
        return self.workload.pools(self._engine, EngineOptions())


def compared_bundles(before: Path, after: Path, *, device: str, seed: int, seconds: float) -> list[Change]:
    """What changed between two bundles that are timed in turn, for every kind of call; each with its own workload."""
    bundles = [Bundle.open(path) for path in (before, after)]
    engines = [open_engine(path, EngineOptions(), device) for path in (before, after)]
    queries = [canary_queries(bundle, engine) for bundle, engine in zip(bundles, engines, strict=True)]
    return compared_engines(engines[0], engines[1], seed=seed, seconds=seconds, canaries=queries)


def compared_engines(
    before: Engine, after: Engine, *, seed: int, seconds: float, canaries: Sequence[Sequence[str]] = ((), ())
) -> list[Change]:
    """What changed between two engines, for every kind of call that both answer; `canaries` are the queries of each."""
    first, second = (
        Workload.sample(engine, PAIRS, np.random.default_rng(seed), queries).pools(engine, EngineOptions())
        for engine, queries in zip((before, after), canaries, strict=True)
    )
    pairs: list[tuple[Line, Line]] = []
    for kind in first:
        if kind in second:
            loads = interleaved(first[kind].take(PAIRS), second[kind].take(PAIRS), seconds=seconds)
            pairs += line_pairs(kind, *loads)
    return changes(pairs)
