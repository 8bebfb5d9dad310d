"""`index build` as a nightly job: what its log tells, and how it ends where an option is wrong or a disk is full."""

from __future__ import annotations

import errno
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pytest

import index_jobs
from index_jobs import Build, Make, catalogue, lines_of, retitled, run
from indexing.bundle.bundle import Bundle
from serving.jobs.job_log import JobLog
from serving.settings import RunSettings

items, data = index_jobs.items, index_jobs.data


def test_the_log_tells_every_stage_what_was_done_and_how_it_ended(
    data: Path, own_bundle: Path, items: pa.Table, tmp_path: Path
) -> None:
    catalogue(data, retitled(items, "a new title"))
    log = tmp_path / "log.jsonl"
    code, _, error = run(own_bundle, "--data", data, "--log", log, "--recall", "0.9", "--memory", "1GiB")
    assert code == 0, error
    told = lines_of(log)
    begun = [line["stage"] for line in told if line["event"] == "begin"]
    assert begun == [line["stage"] for line in told if line["event"] == "end"]
    assert begun[:3] == ["read", "live release", "fingerprint"]
    assert begun[-1] == "publish"
    (embedded,) = (line for line in told if line["stage"] == "embed" and line["event"] == "progress")
    assert (embedded["done"], embedded["total"]) == (1, 1)
    assert {line["name"] for line in told if line["event"] == "gate"} >= {"checksums", "recall", "items"}
    assert told[-1]["outcome"] == "published"
    assert (told[-1]["reused"], told[-1]["resumed"], told[-1]["embedded"]) == (items.num_rows - 1, 0, 1)
    assert set(told[-1]["stages"]) == set(begun)  # type: ignore[call-overload]
    release = Bundle.open(own_bundle).current()
    assert release.id == told[-1]["release"]
    assert release.settings["config"]["index"] == {"factory": "auto", "recall": 0.9, "memory": 2**30}  # type: ignore[index,call-overload]


@pytest.mark.parametrize(
    ("options", "error"),
    [
        (["--memory", "much"], "setting index.memory: could not parse value and unit"),
        (["--recall", "1.5"], "setting index.recall"),
        (["--max-change", "-1"], "--max-change is -1.0"),
        (["--force"], "add --why TEXT"),
        (["--data", "/nowhere"], "/nowhere: no such folder"),
    ],
)
def test_a_wrong_option_is_one_line_and_changes_nothing(
    data: Path, own_bundle: Path, tmp_path: Path, options: list[str], error: str
) -> None:
    before = Bundle.open(own_bundle).releases()
    code, _, told = run(own_bundle, "--data", data, *options)
    assert code == 2
    assert error in told.splitlines()[-1]
    assert Bundle.open(own_bundle).releases() == before


@pytest.mark.parametrize(
    "step",
    [
        "serving.jobs.bundle_parts.write_words",
        "serving.jobs.bundle_parts.write_canaries",
        "indexing.bundle.bundle.replace_file",
    ],
)
def test_a_full_disk_is_one_line_and_the_job_goes_well_when_there_is_room(
    data: Path, own_bundle: Path, items: pa.Table, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    catalogue(data, retitled(items, "a new title"))
    store = Bundle.open(own_bundle)
    store.publish(replace(store.current(), id="older", canaries=None))  # one that has none: they are chosen now
    with monkeypatch.context() as meanwhile:
        meanwhile.setattr(step, full)
        code, _, error = run(own_bundle, "--data", data)
    assert code == 2
    assert "No space left on device; free some space, then run it again" in error.splitlines()[-1]
    assert store.current_id() == "older"
    store.verify().require_sound()
    code, out, error = run(own_bundle, "--data", data)
    assert code == 0, error
    assert f"{items.num_rows - 1} with vectors reused" in out


def test_a_log_that_the_last_line_finds_no_room_in_does_not_take_back_what_is_live(
    data: Path, own_bundle: Path, make_pipeline: Make, quick_settings: RunSettings, build_index: Build, tmp_path: Path
) -> None:
    class FullAtTheEnd(JobLog):
        def finish(self, outcome: str, **figures: object) -> None:
            log.unlink()
            log.symlink_to("/dev/full")
            super().finish(outcome, **figures)

    log, told = tmp_path / "log.jsonl", list[str]()
    pipeline = replace(make_pipeline(data, own_bundle, quick_settings), say=told.append)
    made = build_index(pipeline, log=FullAtTheEnd(log))
    assert made.live
    assert Bundle.open(own_bundle).current() == made.release
    assert told[-1].startswith(f"note: cannot write {log}: No space left on device")


def test_a_job_that_fails_says_so_in_its_log(own_bundle: Path, tmp_path: Path) -> None:
    log = tmp_path / "log.jsonl"
    code, _, error = run(own_bundle, "--data", tmp_path / "none", "--log", log)
    last = lines_of(log)[-1]
    assert (code, last["event"], last["stage"], last["exit_code"]) == (2, "failed", "read", 2)
    assert f"error: {last['error']}" == error.splitlines()[-1]
