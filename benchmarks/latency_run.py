"""A whole measurement of a bundle's latency, and two bundles asked in turn."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from benchmarks.compare import Change, changes, interleaved, line_pairs
from benchmarks.latency import Effort, cold_starts, load_lines, stage_lines, workload
from benchmarks.load import Call
from benchmarks.results import Line, sampled
from benchmarks.sweep import Knobs, Sweep, in_a_process, open_engine
from retrieval.runtime import available_cores
from serving.engine import Engine
from serving.show import say

PAIRS = 2_000  # requests that two engines are asked at most, of a kind


@dataclass(frozen=True)
class LatencyRun:
    """One bundle and how much is asked of it."""

    bundle: Path
    effort: Effort
    device: str = "auto"
    seed: int = 0
    bound: float = 50.0

    def lines(self, sweeps: Sequence[Sweep] = (), *, load: bool = True) -> Iterator[Line]:
        """Cold starts, every kind of call by stage, one kind under load, and the sweeps."""
        say("-- cold")
        engine = open_engine(self.bundle, Knobs(), self.device)
        yield self._cold(engine)
        say("-- one caller")
        calls = self._calls(engine, Knobs())
        yield from stage_lines(calls, self.effort, {})
        if load:
            say("-- load")
            kind, some = next(iter(calls.items()))
            yield from load_lines(
                kind,
                some,
                self.effort,
                workers=available_cores(),
                bound=self.bound,
                rng=np.random.default_rng(self.seed),
            )
        for sweep in sweeps:
            yield from self._swept(sweep)

    def _cold(self, engine: Engine) -> Line:
        user = next(iter(engine.shoppers.user_ids.to_pylist()), "")
        return sampled("first answer of a process", {}, "s", cold_starts(self.bundle, user, runs=self.effort.cold))

    def _swept(self, sweep: Sweep) -> Iterator[Line]:
        """The first kind of call at every value of a setting."""
        for value, knobs in zip(sweep.values, sweep.knobs(), strict=True):
            say(f"-- {sweep.name} {value}")
            labels = {"setting": sweep.name, "value": value}
            if knobs.threads is not None:
                found = self._in_a_process(knobs.threads)
            else:
                calls = self._calls(open_engine(self.bundle, knobs, self.device), knobs)
                kind = next(iter(calls))
                found = list(stage_lines({kind: calls[kind]}, self.effort, {}))
            first = found[0].labels["call"]
            yield from (
                replace(line, measured="sweep", labels=labels | dict(line.labels))
                for line in found
                if line.labels["call"] == first
            )

    def _in_a_process(self, threads: int) -> list[Line]:
        asked = ["--no-load", "--quick", "--seconds", str(self.effort.seconds)]
        same = ["--seed", str(self.seed), "--device", self.device]
        found = in_a_process(["latency", str(self.bundle), *asked, *same], threads)
        return [line for line in found if line.measured == "latency"]

    def _calls(self, engine: Engine, knobs: Knobs) -> dict[str, list[Call]]:
        return workload(engine, self.effort.calls, np.random.default_rng(self.seed), knobs)


def compared_bundles(before: Path, after: Path, *, device: str, seed: int, seconds: float) -> list[Change]:
    """Every kind of call of two bundles, asked in turn; each is asked about what it holds itself."""
    engines = [open_engine(bundle, Knobs(), device) for bundle in (before, after)]
    return compared_engines(engines[0], engines[1], seed=seed, seconds=seconds)


def compared_engines(before: Engine, after: Engine, *, seed: int, seconds: float) -> list[Change]:
    """Every kind of call that both engines answer, in turn."""
    sides = [workload(engine, PAIRS, np.random.default_rng(seed)) for engine in (before, after)]
    pairs: list[tuple[Line, Line]] = []
    for kind in sides[0]:
        if kind in sides[1]:
            loads = interleaved(sides[0][kind], sides[1][kind], seconds=seconds)
            pairs += line_pairs(kind, *loads)
    return changes(pairs)
