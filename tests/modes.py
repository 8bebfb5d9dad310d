"""Folders that this process may read and not write, also where it runs as root, which no mode of a file stops."""

from __future__ import annotations

import ctypes
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

LINUX_CAPABILITY_VERSION_3 = 0x20080522
OVERRIDES = 1 << 1 | 1 << 2  # CAP_DAC_OVERRIDE and CAP_DAC_READ_SEARCH


@contextmanager
def held_to_modes() -> Iterator[None]:
    """Has this thread be held to the modes of files, as whoever is not root is anyway; threads that run already are
    not. Another user would be, too, but could import nothing more from a home that is closed to it."""
    if os.geteuid() != 0:
        yield
        return
    libc = ctypes.CDLL(None, use_errno=True)
    head = (ctypes.c_uint32 * 2)(LINUX_CAPABILITY_VERSION_3, 0)
    sets = (ctypes.c_uint32 * 6)()  # effective, permitted, inheritable; twice
    call(libc.capget, head, sets)
    before = sets[0]
    sets[0] &= ~OVERRIDES
    call(libc.capset, head, sets)
    try:
        yield
    finally:
        sets[0] = before
        call(libc.capset, head, sets)


def call(function: ctypes._NamedFuncPointer, *arguments: ctypes.Array[ctypes.c_uint32]) -> None:
    if function(*arguments):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


@contextmanager
def read_only(folder: Path) -> Iterator[None]:
    """Has nothing in a folder be written."""
    modes = {path: path.stat().st_mode for path in (folder, *folder.rglob("*"))}
    try:
        for path, mode in modes.items():
            path.chmod(mode & ~(stat.S_IWUSR | stat.S_IWGRP | stat.S_IWOTH))
        with held_to_modes():
            yield
    finally:
        for path, mode in modes.items():
            path.chmod(mode)
