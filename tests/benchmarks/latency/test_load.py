"""Load: what each kind of loop counts, and what a closed one cannot see."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from benchmark_fakes import FakeTime
from benchmarks.latency.load import Call, arrivals, closed_loop, highest_rate, open_loop
from benchmarks.result_lines import percentiles
from serving.request import Answer


def stalled_once(fake_time: FakeTime, n: int) -> list[Call]:
    """Calls of 1 ms, of which one takes 500."""
    calls = [fake_time.call(search=1.0)] * n
    return [*calls[: n // 2], fake_time.call(search=500.0), *calls[n // 2 + 1 :]]


def test_an_open_loop_shows_at_p999_a_stall_that_a_closed_loop_hides(fake_time: FakeTime) -> None:
    n = 20_000
    closed = closed_loop(stalled_once(fake_time, n), clock=fake_time.as_clock())
    opened = open_loop(stalled_once(fake_time, n), arrivals(n, 500.0), clock=fake_time.as_clock())
    assert percentiles(closed.milliseconds)["p99.9"] == pytest.approx(1.0)
    assert percentiles(opened.milliseconds)["p99.9"] > 450
    assert percentiles(opened.milliseconds)["p50"] == pytest.approx(1.0)


def test_latency_counts_from_when_a_request_was_due(fake_time: FakeTime) -> None:
    load = open_loop([fake_time.call(search=300.0)] * 3, arrivals(3, 10.0), clock=fake_time.as_clock())
    assert load.milliseconds == pytest.approx([300, 500, 700])
    assert load.seconds == pytest.approx(0.9)


def test_a_closed_loop_ends_when_its_time_is_over_but_not_before_enough_was_asked(fake_time: FakeTime) -> None:
    calls = [fake_time.call(search=125.0)] * 50
    assert len(closed_loop(calls, seconds=1.0, at_least=5, clock=fake_time.as_clock()).timed) == 8
    assert len(closed_loop(calls, seconds=1.0, at_least=30, clock=fake_time.as_clock()).timed) == 30
    assert closed_loop(calls, clock=fake_time.as_clock()).per_second == pytest.approx(8)


def test_what_no_stage_names_is_counted_too(fake_time: FakeTime) -> None:
    def call() -> Answer:
        fake_time.pass_by(0.010)
        return Answer((), "release", timings_ms={"read_user": 2.0, "retrieve": 5.0})

    stages = closed_loop([call], clock=fake_time.as_clock()).stages()
    assert stages == {"read_user": [2.0], "retrieve": [5.0], "other": [pytest.approx(3.0)]}


def test_callers_ask_at_the_same_time_and_every_call_is_made_once() -> None:
    together = threading.Barrier(4, timeout=10)
    made: list[int] = []

    def call(at: int) -> Answer:
        together.wait()
        made.append(at)
        return Answer((), "release")

    load = closed_loop([lambda at=at: call(at) for at in range(8)], callers=4)
    assert sorted(made) == [one.at for one in load.timed] == list(range(8))


def test_an_error_of_a_call_is_not_lost_in_a_thread() -> None:
    def call() -> Answer:
        raise RuntimeError("no index")

    with pytest.raises(RuntimeError, match="no index"):
        open_loop([call] * 4, arrivals(4, 1e6), workers=2)


def test_nothing_to_time_is_an_error_and_not_a_figure() -> None:
    with pytest.raises(ValueError, match="no calls"):
        closed_loop([])
    with pytest.raises(ValueError, match="no calls"):
        open_loop([], arrivals(0, 1.0))


def test_strangers_come_at_the_rate_that_was_asked_for() -> None:
    due = arrivals(20_000, 50.0, np.random.default_rng(0))
    assert (np.diff(due) >= 0).all()
    assert len(due) / due[-1] == pytest.approx(50, rel=0.03)


@pytest.mark.parametrize("start", [1.0, 40.0, 3_000.0])
def test_the_highest_rate_is_found_from_below_and_from_above(start: float) -> None:
    def percentile(rate: float) -> float:
        return 5.0 if rate < 100 else 1_000.0

    rate, trials = highest_rate(percentile, 50.0, start, trials=20)
    assert 95 < rate < 100
    assert max(trial.rate for trial in trials if trial.milliseconds <= 50) == rate


def test_no_rate_is_claimed_where_none_holds() -> None:
    assert highest_rate(lambda rate: 99.0, 50.0, 8.0, trials=4)[0] == 0.0
