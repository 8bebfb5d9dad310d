"""A whole measurement of a bundle's latency, and two bundles asked in turn."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np

from benchmarks.changes import Change, changes
from benchmarks.latency.by_stage import Effort, cold_starts, load_lines, stage_lines
from benchmarks.latency.compare import interleaved, line_pairs
from benchmarks.latency.workload import Asked, Deck, canary_queries, kind_of, reranked
from benchmarks.result_lines import Line, sampled
from benchmarks.sweep import NOT_RERANKED, Knobs, Sweep, in_a_process, open_engine
from indexing.bundle.bundle import Bundle
from retrieval.encoders.runtime import available_cores
from serving.cli.show import say
from serving.engine import Engine

PAIRS = 2_000  # requests that two engines are asked at most, of a kind


@dataclass(frozen=True)
class LatencyRun:
    """One bundle and how much is asked of it. `call` is the kind that load and sweeps are about."""

    bundle: Path
    effort: Effort
    device: str = "auto"
    seed: int = 0
    bound: float = 50.0
    call: str | None = None

    @cached_property
    def asked(self) -> Asked:
        """What the bundle is asked."""
        canaries = canary_queries(Bundle.open(self.bundle), self._engine)
        return Asked.of(self._engine, self.effort.calls, np.random.default_rng(self.seed), canaries)

    @cached_property
    def kind(self) -> str:
        """The kind of call that load and sweeps are about. Raises BadConfig for one that cannot be asked."""
        return kind_of(self.call, self._decks, self._engine.state.reranks)

    def lines(self, sweeps: Sequence[Sweep] = (), *, load: bool = True) -> Iterator[Line]:
        """Cold starts, every kind of call by stage, one kind under load, and the sweeps."""
        kind = self.kind
        say("-- cold")
        for call, asked in self.asked.first().items():
            seconds = cold_starts(self.bundle, asked, device=self.device, runs=self.effort.cold)
            yield sampled("first answer of a process", {"call": call}, "s", seconds)
        say("-- one caller")
        yield from stage_lines(self._decks, self.effort, {})
        if load:
            say(f"-- load of {kind}")
            yield from load_lines(
                kind,
                self._decks[kind],
                self.effort,
                workers=available_cores(),
                bound=self.bound,
                rng=np.random.default_rng(self.seed),
            )
        for sweep in sweeps:
            yield from self._swept(sweep)

    def _swept(self, sweep: Sweep) -> Iterator[Line]:
        """One kind of call at every value of a setting."""
        if sweep.name in NOT_RERANKED and not reranked(self._engine.state.reranks, self.kind):
            say(f"-- {sweep.name}: {self.kind} is not reranked here; {sweep.name} {NOT_RERANKED[sweep.name]}")
        for value, knobs in zip(sweep.values, sweep.knobs(), strict=True):
            say(f"-- {sweep.name} {value}")
            if knobs.threads is not None:
                points = {value: self._in_a_process(knobs.threads)}
            else:
                decks = self._swept_decks(value, knobs)
                points = {name: list(stage_lines({self.kind: deck}, self.effort, {})) for name, deck in decks.items()}
            for name, found in points.items():
                labels = {"setting": sweep.name, "value": name}
                yield from (replace(line, measured="sweep", labels=labels | dict(line.labels)) for line in found)

    def _swept_decks(self, value: str, knobs: Knobs) -> Mapping[str, Deck]:
        """The calls of a point: with filters those whose mask is to be made, and those whose mask is remembered."""
        engine = open_engine(self.bundle, knobs, self.device)
        calls = self.asked.calls(engine, knobs)[self.kind]
        warm = Deck(calls, engine.stages.forget)
        if not knobs.filters:
            return {value: warm}
        return {f"{value}, first": Deck(calls, engine.state.forget, always=True), f"{value}, remembered": warm}

    def _in_a_process(self, threads: int) -> list[Line]:
        asked = ["--no-load", "--quick", "--seconds", str(self.effort.seconds)]
        same = ["--seed", str(self.seed), "--device", self.device]
        found = in_a_process(["latency", str(self.bundle), *asked, *same], threads)
        return [line for line in found if line.measured == "latency" and line.labels["call"] == self.kind]

    @cached_property
    def _engine(self) -> Engine:
        return open_engine(self.bundle, Knobs(), self.device)

    @cached_property
    def _decks(self) -> Mapping[str, Deck]:
        return self.asked.decks(self._engine, Knobs())


def compared_bundles(before: Path, after: Path, *, device: str, seed: int, seconds: float) -> list[Change]:
    """Every kind of call of two bundles, asked in turn; each is asked about what it holds itself."""
    bundles = [Bundle.open(path) for path in (before, after)]
    engines = [open_engine(path, Knobs(), device) for path in (before, after)]
    queries = [canary_queries(bundle, engine) for bundle, engine in zip(bundles, engines, strict=True)]
    return compared_engines(engines[0], engines[1], seed=seed, seconds=seconds, canaries=queries)


def compared_engines(
    before: Engine, after: Engine, *, seed: int, seconds: float, canaries: Sequence[Sequence[str]] = ((), ())
) -> list[Change]:
    """Every kind of call that both engines answer, in turn; `canaries` are the queries of either's."""
    first, second = (
        Asked.of(engine, PAIRS, np.random.default_rng(seed), queries).decks(engine, Knobs())
        for engine, queries in zip((before, after), canaries, strict=True)
    )
    pairs: list[tuple[Line, Line]] = []
    for kind in first:
        if kind in second:
            loads = interleaved(first[kind].point(PAIRS), second[kind].point(PAIRS), seconds=seconds)
            pairs += line_pairs(kind, *loads)
    return changes(pairs)
