"""Writing files so that a killed job or a power cut leaves either the old file or the new one, never half of one."""

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
_FULL = 1 << 20  # bytes: a disk with less room than this has refused what a library could not write


@contextmanager
def writing_to(root: Path) -> Iterator[None]:
    """Turn a write at or below root that the system refused (no space, no permission) into BadBundle, one line.

    Other errors, and those of files elsewhere, pass as they are. A full disk is told from whatever error a library
    makes of it.
    """
    try:
        yield
    except ShortlistError:
        raise
    except Exception as error:
        number, place = _number_of(error, root), root
        if isinstance(error, OSError) and isinstance(error.filename, str | bytes | os.PathLike):
            place = Path(os.fsdecode(error.filename))
        advice = _ADVICE.get(number)
        if advice is None or not (place.is_relative_to(root) or root.is_relative_to(place)):
            raise
        raise BadBundle(f"cannot write {place}: {os.strerror(number)}; {advice}") from error


def _number_of(error: Exception, root: Path) -> int:
    """What the system said, as its number; 0 where nothing is known of it.

    Of a full disk safetensors, tokenizers and `shutil.copytree` have the words alone, torch and OpenVINO a RuntimeError
    without them.
    """
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno
    if os.strerror(errno.ENOSPC) in str(error):
        return errno.ENOSPC
    return errno.ENOSPC if isinstance(error, RuntimeError) and _room(root) < _FULL else 0


def _room(path: Path) -> int:
    """The free bytes of the file system that a path is on, or would be."""
    return shutil.disk_usage(next(place for place in (path, *path.absolute().parents) if place.exists())).free


def sync(path: Path) -> None:
    """Have the kernel put a file's bytes, or a folder's entries, on the disk."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_tree(folder: Path) -> None:
    """Sync every file below a folder, then every folder, the innermost first."""
    for place, _, files in os.walk(folder, topdown=False):
        for name in files:
            sync(Path(place, name))
        sync(Path(place))


def replace_file(target: Path, data: bytes, *, scratch: Path) -> None:
    """Put data in place of target in one step: written and synced at `scratch` (same file system), then renamed.

    Where that fails, nothing stays at `scratch`.
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
    """Write a .npy file of so many rows from parts along its first axis, without holding the whole array.

    Plain writes, not a memory map: a full disk is then an OSError and not a dead process. The first part sets the dtype
    and the other axes; ValueError where there is none, where another has other axes, or where the rows do not add up.
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
        raise ValueError(f"{path.name}: {written} of {rows} rows were written, in one part or more")


def write_array(path: Path, array: NDArray[np.generic]) -> None:
    """Write an array of one axis or more as a .npy file, with an OSError that says what the disk refused, which numpy's
    own `save` does not: see `writing_to`."""
    write_npy(path, len(array), [array])
