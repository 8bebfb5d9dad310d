"""A disk that is full, on a small file system of its own: every writing command ends in one line and with exit code 2,
what was live goes on, and with room the same command goes well."""

from __future__ import annotations

import os
import random
import re
import shutil
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from kills import Jobs
from typer.testing import CliRunner, Result

from indexing.bundle.bundle import Bundle
from retrieval.encoders.runtime import openvino_model
from serving.cli.app import app
from serving.engine import Engine

PAGE, KIB, MIB = 4_096, 1_024, 1_048_576
MOST = 400  # runs of a command, after which it counts as never going well
LINE = r"error: cannot [a-z ]+ {}(/\S*)?: No space left on device; free some space, then run it again"


class Disk:
    """A file system of 64 MiB, of which a ballast leaves as much as is asked for."""

    def __init__(self, path: Path) -> None:
        self.path, self._ballast = path, path / "ballast"

    def leave(self, room: int) -> None:
        """Leave so many bytes."""
        self.empty()
        with (self._ballast / "bytes").open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, shutil.disk_usage(self.path).free - room)

    def leave_names(self, room: int) -> None:
        """Leave any number of bytes, and names for so many files and folders."""
        self.empty()
        for number in range(os.statvfs(self.path).f_favail - room):
            (self._ballast / str(number)).touch()

    def empty(self) -> None:
        """Take the ballast away."""
        shutil.rmtree(self._ballast, ignore_errors=True)
        self._ballast.mkdir()


class Stand(NamedTuple):
    """What is live in a bundle, whole, and what it answers."""

    current: bytes
    items: list[str]
    update: int

    @classmethod
    def of(cls, bundle: Path) -> Stand:
        Bundle.open(bundle).verify().require_sound()
        answer = Engine.open(bundle, device="cpu", auto_reload=False).search("red mug", user_id="shopper-00003")
        return cls((bundle / "CURRENT").read_bytes(), [hit.item_id for hit in answer.items], answer.index_revision)


class Tried(NamedTuple):
    """How much room was too little, and how the command ended with enough."""

    refused: list[int]
    told: Result


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    path = tmp_path / "disk"
    path.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64m,nr_inodes=1500", "tmpfs", str(path)]
    mounted = subprocess.run(mount, capture_output=True, text=True)
    if mounted.returncode != 0:
        pytest.skip(f"no file system can be mounted here: {mounted.stderr.strip()}")
    try:
        yield Disk(path)
    finally:
        subprocess.run(["umount", "--lazy", str(path)], check=True)  # an engine may have files of it open


@pytest.fixture
def bundle(disk: Disk, bundle_path: Path) -> Path:
    """The bundle on that disk, its release live a second time under another name."""
    path = Path(shutil.copytree(bundle_path, disk.path / "bundle"))
    store = Bundle.open(path)
    store.publish(replace(store.current(), id="second"))
    return path


@pytest.fixture
def jobs(bundle: Path, sample_folder: Path, tmp_path: Path) -> Jobs:
    (tmp_path / "scratch").mkdir()
    return Jobs(bundle, sample_folder, tmp_path / "scratch", random.Random(0))


@pytest.fixture(autouse=True)
def quiet(one_thread: None) -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of tracing and of the trainers, whose own tests they are about
        yield


def shortlist(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments], prog_name="shortlist")


def tried(leave: Callable[[int], None], step: int, bundle: Path, *arguments: str | Path) -> Tried:
    """Run a command with a step more room each time until it goes well; each end before is looked at."""
    before, refused = Stand.of(bundle), list[int]()
    for room in count(0, step):
        assert len(refused) < MOST
        leave(room)
        told = shortlist(*arguments)
        if told.exit_code == 0:
            return Tried(refused, told)
        assert_refused(told, bundle.parent)
        assert Stand.of(bundle) == before, room
        assert not list((bundle / ".staging").iterdir()), room
        refused.append(room)
    raise AssertionError("count comes to no end")


def assert_refused(told: Result, folder: Path) -> None:
    errors = [line for line in told.stderr.splitlines() if line.startswith("error")]
    assert (told.exit_code, errors) == (2, told.stderr.splitlines()[-1:]), told.stderr
    assert re.fullmatch(LINE.format(re.escape(str(folder))), errors[0]), errors[0]
    assert "Traceback" not in told.stderr


@pytest.mark.parametrize(("command", "full_of"), [("activate", "names"), ("rollback", "bytes")])
def test_another_release_is_live_once_there_is_room(disk: Disk, bundle: Path, command: str, full_of: str) -> None:
    first = next(release.id for release in Bundle.open(bundle).releases() if release.id != "second")
    leave, step = (disk.leave, PAGE) if full_of == "bytes" else (disk.leave_names, 1)
    refused, _ = tried(leave, step, bundle, "release", command, bundle, *([first] if command == "activate" else []))
    assert refused == [0]
    assert Stand.of(bundle).current == f"{first}\n".encode()


def test_the_first_writer_of_a_bundle_finds_no_room_for_its_lock(disk: Disk, bundle: Path) -> None:
    (bundle / "LOCK").unlink()
    refused, _ = tried(disk.leave, PAGE, bundle, "release", "rollback", bundle)
    assert refused == [0, PAGE]


def test_prune_needs_no_room_and_makes_some(disk: Disk, bundle: Path) -> None:
    before = Stand.of(bundle)
    disk.leave(0)
    assert shortlist("release", "prune", bundle, "--keep", "1").exit_code == 0
    assert Stand.of(bundle) == before
    assert [release.id for release in Bundle.open(bundle).releases()] == ["second"]
    assert shutil.disk_usage(disk.path).free > 0


def test_an_export_is_whole_or_not_there(disk: Disk, bundle: Path) -> None:
    out = disk.path / "out" / "vectors.parquet"
    for room in count(0, 24 * KIB):
        disk.leave(room)
        told = shortlist("index", "export", bundle, "--out", out, "--attributes")
        if told.exit_code == 0:
            break
        assert_refused(told, disk.path)
        assert not out.parent.exists() or not list(out.parent.iterdir())
    assert room > 0
    assert pq.read_table(out).num_rows == 120


@pytest.fixture
def upserts(sample_folder: Path, tmp_path: Path) -> Path:
    """Ten items with other titles, and one of them once more, which is set aside."""
    items = pq.read_table(sample_folder / "items.parquet").slice(0, 10)
    titles = pa.array([f"another title {row}" for row in range(10)])
    items = items.set_column(items.column_names.index("title"), "title", titles)
    path = tmp_path / "upserts.parquet"
    pq.write_table(pa.concat_tables([items, items.slice(0, 1)]), path)
    return path


@pytest.mark.parametrize(("full_of", "step"), [("bytes", 3 * PAGE), pytest.param("names", 1, marks=pytest.mark.slow)])
def test_an_update_is_there_whole_or_not_at_all(
    disk: Disk, bundle: Path, upserts: Path, tmp_path: Path, full_of: str, step: int
) -> None:
    (tmp_path / "gone.txt").write_text("item-00050\nitem-00051\n")
    leave = disk.leave if full_of == "bytes" else disk.leave_names
    options = ("--upsert", upserts, "--delete", tmp_path / "gone.txt", "--max-bad", "0.5")
    refused, told = tried(leave, step, bundle, "index", "update", bundle, *options)
    assert len(refused) > 2
    assert "update 1 of release second: 10 items upserted, 0 of them new, 10 texts embedded; 2 deleted" in told.stdout
    assert Stand.of(bundle).update == 1
    assert pq.read_table(bundle / "rejected.parquet").num_rows == 1


def test_rows_that_find_no_room_aside_leave_nothing_there(disk: Disk, bundle: Path, upserts: Path) -> None:
    disk.leave(0)
    told = shortlist("index", "update", bundle, "--upsert", upserts, "--max-bad", "0.5")
    assert_refused(told, disk.path)
    assert f"cannot write bad rows to {bundle / 'rejected.parquet'}" in told.stderr
    assert not list(bundle.glob("*rejected.parquet*"))


def test_a_graph_that_finds_no_room_is_not_kept_and_answers_all_the_same(disk: Disk, bundle: Path) -> None:
    import openvino

    kept = next((bundle / "runtime").glob("*/encoder.xml"))
    path = disk.path / "graphs" / "encoder.xml"
    ids = {name: np.ones((2, 8), np.int64) for name in ("input_ids", "attention_mask", "token_type_ids")}
    wanted = openvino_model(kept, lambda: pytest.fail("it was kept"))(**ids)
    made = list[int]()

    def make() -> openvino.Model:
        made.append(len(made))
        return openvino.Core().read_model(kept)

    rooms = range(0, 400 * KIB, 80 * KIB)
    for room in rooms:
        disk.leave(room)
        assert openvino_model(path, make)(**ids).tolist() == wanted.tolist()
        names = sorted(file.name for file in path.parent.iterdir()) if path.parent.exists() else []
        assert names in ([], ["encoder.bin", "encoder.sha256", "encoder.xml"])
    assert 1 < len(made) < len(rooms)


def test_a_build_stopped_by_a_full_disk_takes_up_what_it_embedded(disk: Disk, bundle: Path, jobs: Jobs) -> None:
    refused, told = tried(disk.leave, 192 * KIB, bundle, *jobs.build())
    assert len(refused) > 1
    assert "120 items: 106 with vectors reused, 14 embedded by the interrupted job, 0 embedded" in told.stdout
    assert Stand.of(bundle).current != b"second\n"
    assert not (bundle / "work").exists()


@pytest.mark.slow
@pytest.mark.parametrize(("full_of", "step"), [("bytes", 5 * PAGE), ("names", 3)])
def test_a_build_may_find_the_disk_full_at_any_write(
    disk: Disk, bundle: Path, jobs: Jobs, full_of: str, step: int
) -> None:
    leave = disk.leave if full_of == "bytes" else disk.leave_names
    log = disk.path / "log.jsonl"
    refused, _ = tried(leave, step, bundle, *jobs.build(), "--log", log)
    assert len(refused) > 5
    assert Stand.of(bundle).current != b"second\n"


@pytest.mark.slow
@pytest.mark.parametrize("name", ["drawing.svg", "drawing.png", "drawing.html"])
def test_a_drawing_that_finds_no_room_is_not_there(disk: Disk, bundle: Path, name: str) -> None:
    out = disk.path / name
    refused, _ = tried(disk.leave, 2 * PAGE, bundle, "index", "tune", bundle, "--out", out)
    assert refused
    assert out.stat().st_size > 2 * PAGE * len(refused) - 2 * PAGE


def reported(bundle: Path) -> list[bytes]:
    return [(bundle / name).read_bytes() for name in ("report.html", "evaluation.json")]


@pytest.mark.slow
def test_an_evaluation_that_finds_no_room_leaves_the_report_before(
    disk: Disk, bundle: Path, sample_folder: Path
) -> None:
    before = reported(bundle)
    disk.leave(40 * KIB)  # enough for one of the two files
    assert_refused(shortlist("evaluate", bundle, "--data", sample_folder), disk.path)
    assert reported(bundle) == before
    disk.empty()
    assert shortlist("evaluate", bundle, "--data", sample_folder).exit_code == 0
    assert reported(bundle) != before


@pytest.mark.slow
def test_an_engine_whose_graphs_find_no_room_answers(disk: Disk, bundle: Path) -> None:
    before = Stand.of(bundle)
    shutil.rmtree(bundle / "runtime")
    disk.leave(0)
    assert Stand.of(bundle) == before
    assert not [path for path in (bundle / "runtime").rglob("*") if path.is_file()]


@pytest.mark.slow
def test_a_training_of_the_ranker_may_find_the_disk_full_at_any_write(
    disk: Disk, bundle: Path, sample_folder: Path, quick_changes: list[str]
) -> None:
    before = reported(bundle)
    options = [part for change in quick_changes for part in ("--set", change)]
    command = ("train", "ranker", bundle, "--data", sample_folder, "--budget", "quick", *options)
    refused, _ = tried(disk.leave, 48 * KIB, bundle, *command)
    assert len(refused) > 5
    assert reported(bundle) != before
    assert Stand.of(bundle).current != b"second\n"
    assert not (bundle / "work").exists()


@pytest.mark.slow
@pytest.mark.parametrize("command", ["towers", "adopt", "run"])
def test_a_release_that_finds_no_room_is_not_live_and_is_made_with_room(
    disk: Disk, bundle: Path, sample_folder: Path, quick_changes: list[str], tiny_ranker_folder: Path, command: str
) -> None:
    before, model = reported(bundle), quick_changes[0].partition("=")[2]
    options = [part for change in quick_changes for part in ("--set", change)]
    to = (bundle, "--data", sample_folder)
    step, arguments = {
        "towers": (MIB, ("train", "towers", *to, "--budget", "quick", *options)),
        "adopt": (64 * KIB, ("adopt", *to, "--encoder", model, "--ranker", tiny_ranker_folder)),
        "run": (2 * MIB, ("run", *to, "--budget", "quick", *options, "--set", "ranking.cross_fit_below=100000")),
    }[command]
    refused, _ = tried(disk.leave, step, bundle, *arguments)
    assert len(refused) > 4
    assert (reported(bundle) != before) == (command == "run")
    assert Stand.of(bundle).current != b"second\n"
    assert not (bundle / "work").exists()


def test_a_new_bundle_that_finds_no_room_is_not_left_begun(disk: Disk, sample_folder: Path) -> None:
    disk.leave(0)
    assert_refused(shortlist("run", disk.path / "new", "--data", sample_folder), disk.path)
    assert not (disk.path / "new").exists()


@pytest.mark.slow
def test_a_sample_that_finds_no_room_is_one_line(disk: Disk) -> None:
    disk.leave(64 * KIB)
    assert_refused(shortlist("sample", disk.path / "shop"), disk.path)
    disk.empty()
    assert shortlist("sample", disk.path / "shop").exit_code == 0


@pytest.mark.slow
def test_a_full_disk_of_temporary_files_is_named_and_not_the_bundles(
    disk: Disk, own_bundle: Path, sample_folder: Path, tiny_encoder_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = Stand.of(own_bundle)
    monkeypatch.setattr(tempfile, "tempdir", str(disk.path))
    disk.leave(0)
    to = (own_bundle, "--data", sample_folder)
    for command in (("adopt", *to, "--encoder", tiny_encoder_folder), ("evaluate", *to)):
        assert_refused(shortlist(*command), disk.path)
        assert Stand.of(own_bundle) == before


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
@pytest.mark.parametrize("more", [["--json"], []])
def test_a_stdout_without_room_is_one_line(bundle_path: Path, more: list[str]) -> None:
    asked = "from serving.cli.app import app; app()"
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-c", asked, "index", "status", str(bundle_path), *more], stdout=full,
            stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr.splitlines() == [
        "error: stdout cannot be written: No space left on device; free space there, or redirect the output"
    ]
