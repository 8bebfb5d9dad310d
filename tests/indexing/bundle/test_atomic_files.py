"""Writes that are whole or not there."""

from __future__ import annotations

import errno
import shutil
from pathlib import Path

import numpy as np
import pytest

from indexing.bundle.atomic_files import replace_file, write_array, write_npy, writing_to
from retrieval.errors import BadBundle


def test_an_array_written_in_parts_is_the_array(tmp_path: Path) -> None:
    array = np.arange(35, dtype=np.float32).reshape(7, 5)
    write_npy(tmp_path / "a.npy", 7, [array[:3], array[3:3], array[3:]])
    np.testing.assert_array_equal(np.load(tmp_path / "a.npy", mmap_mode="r"), array)
    write_npy(tmp_path / "b.npy", 7, iter([array[:, ::2]]))
    np.testing.assert_array_equal(np.load(tmp_path / "b.npy"), array[:, ::2])


def test_parts_that_do_not_add_up_are_a_fault(tmp_path: Path) -> None:
    array = np.zeros((4, 2), np.float32)
    with pytest.raises(ValueError, match="4 of 5 rows"):
        write_npy(tmp_path / "a.npy", 5, [array])
    with pytest.raises(ValueError, match="among others of axes"):
        write_npy(tmp_path / "a.npy", 8, [array, array[:, :1]])
    with pytest.raises(ValueError, match="0 of 0 rows were written"):
        write_npy(tmp_path / "a.npy", 0, [])


@pytest.mark.parametrize("shape", [(0,), (0, 3), (5,), (100_000, 3)])
def test_an_array_is_written_whole_or_the_disk_is_named(tmp_path: Path, shape: tuple[int, ...]) -> None:
    array = np.ones(shape, np.int64)
    write_array(tmp_path / "a.npy", array)
    np.testing.assert_array_equal(np.load(tmp_path / "a.npy"), array)
    (tmp_path / "full.npy").symlink_to("/dev/full")
    with pytest.raises(BadBundle, match=r"cannot write .*: No space left on device"), writing_to(tmp_path):
        write_array(tmp_path / "full.npy", array)


def test_a_file_is_replaced_and_the_scratch_is_gone(tmp_path: Path) -> None:
    (tmp_path / "CURRENT").write_bytes(b"old")
    replace_file(tmp_path / "CURRENT", b"new", scratch=tmp_path / "scratch")
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {"CURRENT": b"new"}
    (tmp_path / "scratch").symlink_to("/dev/full")
    with pytest.raises(OSError, match="No space"):
        replace_file(tmp_path / "CURRENT", b"newer", scratch=tmp_path / "scratch")
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {"CURRENT": b"new"}


def test_a_refused_write_is_one_line_and_other_errors_pass(tmp_path: Path) -> None:
    with (
        pytest.raises(BadBundle, match=r"cannot write .*: No space left on device; free some space"),
        writing_to(tmp_path),
    ):
        raise OSError(errno.ENOSPC, "No space left on device")
    with pytest.raises(PermissionError), writing_to(tmp_path / "bundle"):
        raise PermissionError(errno.EACCES, "Permission denied", str(tmp_path / "data.parquet"))
    with pytest.raises(FileNotFoundError), writing_to(tmp_path):
        (tmp_path / "nothing").read_bytes()


@pytest.mark.parametrize(
    ("error", "room", "told"),
    [
        (Exception("No space left on device (os error 28)"), 1 << 30, True),  # as tokenizers has it
        (shutil.Error([("a", "b", "[Errno 28] No space left on device: 'a' -> 'b'")]), 1 << 30, True),
        (RuntimeError("basic_ios::clear: iostream error"), 4_096, True),  # as OpenVINO has it, of any trouble
        (RuntimeError("basic_ios::clear: iostream error"), 1 << 30, False),
        (ValueError("of something else"), 4_096, False),
    ],
)
def test_a_full_disk_is_told_from_what_libraries_make_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, room: int, told: bool
) -> None:
    usage = shutil.disk_usage(tmp_path)._replace(free=room)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    with pytest.raises(BadBundle if told else type(error)) as caught, writing_to(tmp_path / "not" / "made"):
        raise error
    words = f"cannot write {tmp_path / 'not' / 'made'}: No space left on device; free some space, then run it again"
    assert (str(caught.value) == words) == told
