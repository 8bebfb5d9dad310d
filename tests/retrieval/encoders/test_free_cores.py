"""A training takes the cores that other programs leave free."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from retrieval.encoders import free_cores as threads
from retrieval.encoders.free_cores import busy_cores, free_cores


@pytest.fixture
def two_threads() -> Iterator[int]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield 2
    torch.set_num_threads(before)


@pytest.mark.parametrize(("busy", "chosen"), [(0.1, 2), (0.9, 1), (7.0, 1)])
def test_a_busy_machine_trains_on_fewer_threads_and_says_so(
    two_threads: int, monkeypatch: pytest.MonkeyPatch, busy: float, chosen: int
) -> None:
    monkeypatch.setattr(threads, "busy_cores", lambda: busy)
    monkeypatch.setattr(threads, "available_cores", lambda: 2)
    monkeypatch.setattr(threads, "affinity_cores", lambda: 2)
    told: list[str] = []
    with free_cores("ranker", "cpu", told.append):
        assert torch.get_num_threads() == chosen
    assert torch.get_num_threads() == two_threads
    assert told == ([] if chosen == 2 else [f"ranker: 1 of 2 threads, because other programs keep {busy} cores busy"])


def test_a_containers_quota_is_not_exceeded_though_more_cores_are_free(
    two_threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(threads, "busy_cores", lambda: 30.0)
    monkeypatch.setattr(threads, "available_cores", lambda: 1)
    monkeypatch.setattr(threads, "affinity_cores", lambda: 64)
    told: list[str] = []
    with free_cores("ranker", "cpu", told.append):
        assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == two_threads
    assert told == ["ranker: 1 of 2 threads, because the CPU quota of this container allows no more"]


def test_a_gpu_needs_no_cores(two_threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "busy_cores", lambda: 2.0)
    with free_cores("ranker", "cuda", print):
        assert torch.get_num_threads() == two_threads


def test_busy_cores_are_those_of_this_process_that_did_not_idle(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stat = tmp_path / "stat"
    before = (
        "cpu  9 9 9 9 9 9 9 9 0 0\ncpu0 100 0 0 100 0 0 0 0 0 0\ncpu1 5 5 5 5 5 5 5 5 0 0\ncpu7 0 0 0 0 0 0 0 0 0 0\n"
    )
    after = before.replace("cpu0 100 0 0 100", "cpu0 125 5 0 150").replace("cpu7 0", "cpu7 50")
    stat.write_text(before)
    monkeypatch.setattr(threads, "STAT", stat)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1})
    monkeypatch.setattr(time, "sleep", lambda _: stat.write_text(after))
    assert busy_cores() == pytest.approx(30 / 80)


def test_where_cores_tell_no_times_the_load_average_stands_for_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(threads, "STAT", tmp_path / "none")
    monkeypatch.setattr(os, "getloadavg", lambda: (1.5, 9.0, 9.0))
    assert busy_cores() == 1.5
