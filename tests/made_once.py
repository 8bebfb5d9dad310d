"""Folders that are costly to make, made once for all processes of a test run (pytest-xdist starts several)."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from filelock import FileLock


def made_once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], object]) -> Path:
    """The folder `name` of this test run, which `make` fills where no process of the run has done so yet.

    `make` gets the path of an empty folder. Whoever asks meanwhile waits; where `make` fails, the next who asks tries.
    """
    base = factory.getbasetemp()
    shared = base.parent if base.name.startswith("popen-") else base  # each worker of xdist has a folder of its own
    folder, done = shared / name, shared / f"{name}.done"
    with FileLock(shared / f"{name}.lock"):
        if not done.exists():
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            make(folder)
            done.touch()
    return folder
