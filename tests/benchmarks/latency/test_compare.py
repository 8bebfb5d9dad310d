"""Two engines asked in turn: what is planted is named by stage, and noise raises no alarm."""

from __future__ import annotations

import numpy as np
import pytest

from benchmark_fakes import FakeTime
from benchmarks.changes import changes
from benchmarks.latency.compare import interleaved, line_pairs
from benchmarks.latency.load import Call

STAGES = {"read_user": 2.0, "retrieve": 4.0, "rank": 40.0}
CALLS = 60


def noisy_engine(fake_time: FakeTime, rng: np.random.Generator, **planted: float) -> list[Call]:
    """Calls whose stages vary by a tenth, and whose machine slows and quickens; some stages have more to do."""

    def made(at: int) -> Call:
        def call():
            slow = 1.0 + 0.3 * np.sin(fake_time.now)
            stages = {name: (ms + planted.get(name, 0.0)) * slow * rng.lognormal(0, 0.1) for name, ms in STAGES.items()}
            return fake_time.call(**stages)()

        return call

    return [made(at) for at in range(CALLS)]


def alarms(fake_time: FakeTime, seed: int, **planted: float) -> set[str]:
    """The stages that a comparison calls changed."""
    rng = np.random.default_rng(seed)
    before, after = noisy_engine(fake_time, rng), noisy_engine(fake_time, rng, **planted)
    found = changes(list(line_pairs("recommend", *interleaved(before, after, clock=fake_time.as_clock()))))
    return {one.labels["stage"] for one in found if one.verdict != "same"}


@pytest.mark.parametrize("stage", ["retrieve", "rank"])
def test_ten_milliseconds_planted_in_a_stage_are_named_by_that_stage(fake_time: FakeTime, stage: str) -> None:
    assert alarms(fake_time, seed=1, **{stage: 10.0}) == {stage, "end to end"}


def test_with_nothing_planted_twenty_repeats_raise_no_alarm(fake_time: FakeTime) -> None:
    assert [alarms(fake_time, seed) for seed in range(20)] == [set()] * 20
