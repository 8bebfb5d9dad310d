"""The folders of a run: models in progress, checkpoints of trainings, what is kept or removed at its end."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from indexing.bundle.atomic_files import writing_to
from indexing.version.build import WORK

REJECTED = "rejected.parquet"


@dataclass(frozen=True)
class Work:
    """A folder, and the fingerprint of what is trained there; only a training of the same one resumes."""

    folder: Path
    made_of: str

    def fresh(self, name: str) -> Path:
        """An empty folder for a model in progress."""
        path = self.folder / name
        shutil.rmtree(path, ignore_errors=True)
        path.mkdir(parents=True)
        return path

    def checkpoints(self, model: str) -> Path:
        """The checkpoints from which an interrupted training of a model resumes."""
        return self.folder / "checkpoints" / self.made_of / model


@contextmanager
def removed_unless_begun(out: Path) -> Iterator[None]:
    """Removes the folder `out`, if it was not there before, after an error that came before any training."""
    there = out.exists()
    try:
        yield
    except BaseException:
        if not there and not (out / WORK).exists():
            shutil.rmtree(out, ignore_errors=True)
        raise


def keep_rejected(rejected: Path, out: Path) -> None:
    """Puts the rows that were set aside beside the output; removes those of an earlier run where there are none."""
    if rejected.exists():
        beside = out / f".{REJECTED}"
        try:
            with writing_to(out):
                shutil.copyfile(rejected, beside)
                beside.replace(out / REJECTED)
        finally:
            beside.unlink(missing_ok=True)
    else:
        (out / REJECTED).unlink(missing_ok=True)
