"""A clock of its own for each test, and runs on a made-up machine."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from benchmark_fakes import FakeTime
from benchmarks.environment import Probe
from benchmarks.results import Run

QUIET = Probe(100.0, 10.0)


@pytest.fixture
def fake_time() -> FakeTime:
    return FakeTime()


@pytest.fixture
def make_run() -> Callable[..., Run]:
    """A run of some day on some machine."""

    def made(day: int = 1, probe: Probe = QUIET, **data: str) -> Run:
        date = f"2026-01-{day:02}T00:00:00+00:00"
        return Run(command="shortlist bench x", date=date, commit="abc", machine={"cores": "2"}, probe=probe, data=data)

    return made
