"""The time of a call by stages, and how many pairs are expected to fit in what is left."""

from __future__ import annotations

import pytest

from serving.answering.deadline import (
    COLD_START_PAIRS,
    DEADLINE_SHARE,
    LATE_SHARE,
    MARGIN_SHARE,
    MIN_PAIRS,
    MOST_MARGIN,
    PROBE_EVERY,
    Deadline,
    LatencyModel,
    StageTimes,
)


def test_the_estimate_converges_to_calls_that_take_the_time_they_are_given() -> None:
    latency, read = LatencyModel(), 0
    assert latency.pairs_within(100.0) == COLD_START_PAIRS
    for _ in range(60):
        read = latency.pairs_within(100.0)
        latency.observe(read, 8.0 + 3.0 * read)
    assert read == pytest.approx((100 * DEADLINE_SHARE - 8) / 3, abs=1)


def test_one_slow_call_is_not_the_last() -> None:
    latency = LatencyModel()
    latency.observe(30, 60_000.0)
    read = []
    for _ in range(5 * PROBE_EVERY):
        read.append(latency.pairs_within(100.0))
        latency.observe(read[-1], 3.0 * read[-1])
    assert read[: PROBE_EVERY - 1] == [0] * (PROBE_EVERY - 1)
    assert read[PROBE_EVERY - 1] == MIN_PAIRS
    assert read[-1] == int(DEADLINE_SHARE * 100 / 3)


def test_who_comes_too_late_teaches_nothing() -> None:
    latency = LatencyModel()
    latency.observe(10, 100.0)
    before = latency.pairs_within(1_000.0)
    assert {latency.pairs_within(late) for late in (0.0, -5.0) for _ in range(5_000)} == {0}
    assert latency.pairs_within(1_000.0) == before == 80
    latency.observe(7, 0.0)
    assert latency.pairs_within(1e12) > 0


def test_the_median_of_the_last_calls_decides() -> None:
    latency = LatencyModel()
    for milliseconds in (10.0, 10.0, 900.0, 10.0, 10.0):
        latency.observe(1, milliseconds)
    assert latency.pairs_within(1_000.0) == 80
    for _ in range(5):
        latency.observe(1, 20.0)
    assert latency.pairs_within(1_000.0) == 40


def test_a_stage_that_is_entered_twice_is_timed_as_the_sum(monkeypatch: pytest.MonkeyPatch) -> None:
    now = iter([0.0, 1.0, 1.25, 2.0, 2.5, 3.0, 3.5])
    monkeypatch.setattr("serving.answering.deadline.time.perf_counter", now.__next__)
    deadline = Deadline(1_000.0)
    for name in ("rank", "rank", "describe"):
        with deadline.stage(name):
            pass
    assert deadline.timings_ms == {"rank": 750.0, "describe": 500.0}


def test_what_is_left_falls_from_the_beginning_on(monkeypatch: pytest.MonkeyPatch) -> None:
    now = iter([10.0, 10.25, 11.5])
    monkeypatch.setattr("serving.answering.deadline.time.perf_counter", now.__next__)
    left = Deadline(1_000.0).left
    assert left is not None
    assert [left(), left()] == [750.0, -500.0]


def test_without_a_deadline_nothing_is_left_to_run_out_of() -> None:
    assert Deadline().left is None


def test_beside_other_callers_less_work_fits_into_what_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("serving.answering.deadline.time.perf_counter", lambda: 10.0)
    alone, beside = Deadline(1_000.0), Deadline(1_000.0, lambda: 4.0)
    for deadline in (alone, beside):
        deadline.reserved_ms = 100.0
    assert alone.left is not None
    assert beside.left is not None
    assert (alone.left(), beside.left()) == (900.0, 150.0)


def test_work_beside_other_callers_counts_as_what_it_would_take_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    now, slowdown = iter([0.0, 0.0, 0.3]), iter([2.0, 4.0])
    monkeypatch.setattr("serving.answering.deadline.time.perf_counter", now.__next__)
    worked = Deadline(None, slowdown.__next__).timer()
    assert worked() == pytest.approx(100.0)


def test_a_margin_is_kept_as_long_as_answers_are_late(monkeypatch: pytest.MonkeyPatch) -> None:
    times, late = StageTimes(), 8.0
    for _ in range(1_000):
        times.ended(late - times.margin_ms)
    assert times.margin_ms == pytest.approx(late, abs=1.0)
    for _ in range(int(late / LATE_SHARE) + 100):
        times.ended(-1.0)
    assert times.margin_ms == 0.0
    for _ in range(100):
        times.ended(1.0)
    assert times.margin_ms == MOST_MARGIN
    monkeypatch.setattr("serving.answering.deadline.time.perf_counter", lambda: 10.0)
    deadline = Deadline(10.0)
    deadline.margin_ms = times.margin_ms
    assert deadline.left is not None
    assert deadline.left() == 10.0 * (1 - MARGIN_SHARE)


def test_a_deadline_that_could_not_be_kept_says_nothing_of_margins(monkeypatch: pytest.MonkeyPatch) -> None:
    now = iter([0.0, 0.015, 0.025])
    monkeypatch.setattr("serving.answering.deadline.time.perf_counter", now.__next__)
    deadline = Deadline(10.0)
    assert deadline.late_ms == pytest.approx(5.0)
    assert deadline.late_ms is None
