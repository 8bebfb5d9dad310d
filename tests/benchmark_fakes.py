"""A clock that only moves when a test moves it, and calls that take as long as a test says."""

from __future__ import annotations

from dataclasses import dataclass

from benchmarks.latency.load import Call, Clock
from serving.request import Answer


@dataclass
class FakeTime:
    """Seconds since a test began."""

    now: float = 0.0

    def clock(self) -> float:
        return self.now

    def pass_by(self, seconds: float) -> None:
        self.now += seconds

    def as_clock(self) -> Clock:
        return Clock(self.clock, self.pass_by)

    def call(self, **stages: float) -> Call:
        """A call whose stages take so many milliseconds."""

        def made() -> Answer:
            self.pass_by(sum(stages.values()) / 1_000)
            return Answer((), "release", timings_ms=dict(stages))

        return made
