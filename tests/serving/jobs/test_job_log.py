"""What a job tells of itself: stages with their seconds, counts, and how it ended."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from itertools import count
from pathlib import Path

import pytest

from index_jobs import lines_of
from retrieval.errors import BadBundle, BadConfig, GateRefused
from serving.jobs.job_log import JobLog

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


@pytest.fixture
def clock() -> Callable[[], float]:
    """A second goes by at every look."""
    seconds: Iterator[int] = count()
    return lambda: float(next(seconds))


def events(path: Path) -> list[tuple[object, object]]:
    return [(line["stage"], line["event"]) for line in lines_of(path)]


def test_each_stage_is_begun_and_ended_once_with_its_seconds(tmp_path: Path, clock: Callable[[], float]) -> None:
    path = tmp_path / "log.jsonl"
    with JobLog(path, now=lambda: NOW, clock=clock) as log:
        log.report("read")
        log.note("validated", rows=3)
        log.report("embed", 0, 20)
        log.advance(7)
        log.report("embed", 10, 20)
        log.report("embed", 20, 20)
        log.finish("published", release="r1")
    assert events(path) == [
        ("read", "begin"),
        ("read", "validated"),
        ("read", "end"),
        ("embed", "begin"),
        ("embed", "progress"),
        ("embed", "progress"),
        ("embed", "end"),
        ("", "outcome"),
    ]
    lines = lines_of(path)
    assert all(line["time"] == "2026-01-02T03:04:05.000+00:00" for line in lines)
    assert [(line["done"], line["total"]) for line in lines if "done" in line] == [(0, 20), (10, 20), (20, 20)]
    seconds = [line["seconds"] for line in lines[:3]]
    assert seconds == sorted(seconds)  # type: ignore[type-var]
    assert lines[1]["rows"] == 3
    assert (lines[-1]["outcome"], lines[-1]["release"]) == ("published", "r1")
    assert lines[-1]["stages"] == log.seconds
    assert set(log.seconds) == {"read", "embed"}


def test_a_stage_that_comes_again_is_added_up(clock: Callable[[], float]) -> None:
    log = JobLog(now=lambda: NOW, clock=clock)
    for stage in ("read", "embed", "read"):
        log.report(stage)
    log.end()
    assert log.seconds["read"] > log.seconds["embed"] > 0


@pytest.mark.parametrize(
    ("error", "code"),
    [(GateRefused("refused\nby a gate"), 3), (BadBundle("no"), 2), (ValueError("ours"), 1), (KeyboardInterrupt(), 130)],
)
def test_a_failure_is_told_with_its_stage_and_its_exit_code(tmp_path: Path, error: BaseException, code: int) -> None:
    path = tmp_path / "log.jsonl"
    with pytest.raises(type(error)), JobLog(path, now=lambda: NOW) as log:
        fail(log, error)
    last = lines_of(path)[-1]
    assert (last["stage"], last["event"], last["exit_code"]) == ("embed", "failed", code)
    assert last["error"] == " ".join(str(error).split())


def fail(log: JobLog, error: BaseException) -> None:
    log.report("embed", 0, 5)
    raise error


def test_lines_are_added_to_what_is_there(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    for outcome in ("refused", "published"):
        with JobLog(path, now=lambda: NOW) as log:
            log.finish(outcome)
    assert [line["outcome"] for line in lines_of(path)] == ["refused", "published"]


def test_a_log_that_cannot_be_written_is_one_line_and_does_not_hide_another_error(tmp_path: Path) -> None:
    log = JobLog(Path("/dev/full"), now=lambda: NOW)
    with pytest.raises(BadBundle, match=r"cannot write /dev/full: No space left on device; free some space"), log:
        log.report("read")
    with pytest.raises(GateRefused, match="first"), log:
        raise GateRefused("first")


def test_a_path_that_can_be_no_file_is_refused(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "none" / "log"):
        with pytest.raises(BadConfig, match=f"--log {path}"):
            JobLog(path, now=lambda: NOW)
