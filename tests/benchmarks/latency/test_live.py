"""What is measured of recording, on a tiny bundle."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.latency.live import BESIDES, LiveRun


@pytest.mark.slow
def test_every_way_of_recording_is_measured_and_the_bundle_is_left_alone(bundle: Path) -> None:
    before = sorted(path.name for path in bundle.iterdir())
    lines = list(LiveRun(bundle, rate=500, seconds=0.3, rounds=1, shoppers=3, device="cpu").lines())
    by = {(line.measured, line.labels.get("by")): line for line in lines}
    assert {beside for what, beside in by if what == "latency while events are recorded"} == set(BESIDES)
    for beside in BESIDES[1:]:
        assert by["events kept", beside].summary["mean"] > 0
        assert by["p99 against that beside nothing", beside].summary["ratio"] > 0
    assert by["recorded event", None].summary["n"] == 3
    assert sorted(path.name for path in bundle.iterdir()) == before
