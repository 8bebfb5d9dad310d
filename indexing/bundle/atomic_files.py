"""Atomic writes: a killed job or a power cut leaves either the old file or the new one, never a part of one."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from retrieval.errors import BadBundle, ShortlistError

_ADVICE = {
    errno.ENOSPC: "free some space, then run it again",
    errno.EDQUOT: "free some space within your quota, then run it again",
    errno.EACCES: "make the folder writable for this user",
    errno.EPERM: "make the folder writable for this user",
    errno.EROFS: "the file system is mounted read-only: choose another folder",
    errno.EIO: "the disk is failing: choose another",
    errno.ENAMETOOLONG: "choose a shorter name",
    errno.EEXIST: "a file stands where a folder is needed: choose another folder",
    errno.EISDIR: "a folder stands where a file is needed: choose another name",
    errno.ENOTDIR: "a file stands where a folder is needed: choose another folder",
}
_FULL = 1 << 20  # bytes: with less free space, a failed write of a library is blamed on the disk


@contextmanager
def writing_to(root: Path) -> Iterator[None]:
    """Turn a write at or below `root` that the system refused (no space, no permission) into a BadBundle of one line.

    Other errors, and errors of files elsewhere, pass unchanged. A full disk is recognised through the various errors
    that libraries make of it.
    """
    try:
        yield
    except ShortlistError:
        raise
    except Exception as error:
        number, place = _errno_of(error, root), root
        if isinstance(error, OSError) and isinstance(error.filename, str | bytes | os.PathLike):
            place = Path(os.fsdecode(error.filename))
        advice = _ADVICE.get(number)
        if advice is None or not (place.is_relative_to(root) or root.is_relative_to(place)):
            raise
        raise BadBundle(f"cannot write {place}: {os.strerror(number)}; {advice}") from error


def _errno_of(error: Exception, root: Path) -> int:
    """The system's errno behind an error; 0 where it is unknown.

    For a full disk, safetensors, tokenizers and `shutil.copytree` raise errors with the system's message only, torch
    and OpenVINO a RuntimeError without even that.
    """
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno
    if os.strerror(errno.ENOSPC) in str(error):
        return errno.ENOSPC
    return errno.ENOSPC if isinstance(error, RuntimeError) and _free_bytes(root) < _FULL else 0


def _free_bytes(path: Path) -> int:
    """The free bytes of the file system of a path, which need not exist."""
    return shutil.disk_usage(next(place for place in (path, *path.absolute().parents) if place.exists())).free


def sync(path: Path) -> None:
    """Flush a file's bytes, or a folder's entries, to the disk (fsync)."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_tree(folder: Path) -> None:
    """Sync every file and folder below a folder, innermost folders first, and the folder itself."""
    for place, _, files in os.walk(folder, topdown=False):
        for name in files:
            sync(Path(place, name))
        sync(Path(place))


def replace_file(target: Path, data: bytes, *, scratch: Path) -> None:
    """Replace the file `target` atomically: `data` is written and synced to `scratch`, which is then renamed.

    `scratch` has to be on the same file system; it is removed where the write fails.
    """
    try:
        with scratch.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        scratch.replace(target)
    finally:
        scratch.unlink(missing_ok=True)
    sync(target.parent)


def write_npy(path: Path, rows: int, parts: Iterable[NDArray[np.generic]]) -> None:
    """Write a .npy file of `rows` rows from parts along the first axis, without holding the whole array in memory.

    It uses plain writes, not a memory map, so that a full disk raises OSError instead of killing the process. The first
    part sets the dtype and the other axes. Raises ValueError where there is no part, where a part has other axes, or
    where the parts' rows do not add up.
    """
    written = 0
    axes: tuple[int, ...] = ()
    dtype: np.dtype[np.generic] | None = None
    with path.open("wb") as file:
        for part in parts:
            if dtype is None:
                axes, dtype = part.shape[1:], part.dtype
                header = {"descr": npy.dtype_to_descr(dtype), "fortran_order": False, "shape": (rows, *axes)}
                npy.write_array_header_2_0(file, header)
            if part.shape[1:] != axes:
                raise ValueError(f"{path.name}: a part of shape {part.shape} among others of axes {axes}")
            file.write(np.ascontiguousarray(part, dtype).data)
            written += len(part)
    if written != rows or dtype is None:
        raise ValueError(f"{path.name}: {written} of {rows} rows were written")


def write_array(path: Path, array: NDArray[np.generic]) -> None:
    """Write an array of one axis or more as a .npy file; unlike `np.save` it raises an OSError with an errno, which
    `writing_to` needs."""
    write_npy(path, len(array), [array])
