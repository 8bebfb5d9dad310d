"""Checks that what is on the disk is what was written: every file, by name."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from indexing.manifest import MANIFEST, FileSum, Manifest, file_sum
from retrieval.errors import CorruptBundle

DELTA = "delta"  # the folder of an index version that updates append to
AFTER = "after"  # in the manifest of an update: the sha256 of the manifest that it follows


class Fault(NamedTuple):
    """One file that is not as it was written."""

    path: Path
    what: str  # missing, changed, additional or out of order

    def __str__(self) -> str:
        """The file and what became of it."""
        return f"{self.path} is {self.what}"


@dataclass(frozen=True)
class Verdict:
    """The outcome of a verification."""

    subject: str  # what was verified: a release or a folder
    files: int  # how many files were looked at
    bytes: int
    faults: tuple[Fault, ...]

    @property
    def sound(self) -> bool:
        """Whether every file is as it was written."""
        return not self.faults

    def require_sound(self) -> None:
        """Raise CorruptBundle, naming the files, unless every file is as it was written."""
        if self.faults:
            named = "; ".join(map(str, self.faults[:5])) + ("; ..." if len(self.faults) > 5 else "")
            raise CorruptBundle(
                f"{self.subject} is damaged in {len(self.faults)} files: {named}; restore them from a copy, build "
                "again, or roll back to an earlier release"
            )


def folder_faults(folder: Path, manifest: Manifest, *, sizes_only: bool = False) -> Iterator[Fault]:
    """The files of an artefact folder that are missing, changed or additional; of an index, those of its updates too.

    `sizes_only` compares sizes and reads no contents: what a reader does at open. A file cut short or lost is seen, a
    flipped byte is not.
    """
    for name, expected in manifest.files.items():
        path = folder / name
        if not path.is_file() or path.is_symlink():
            yield Fault(path, "missing")
        elif not _same(path, expected, sizes_only):
            yield Fault(path, "changed")
    delta = folder / DELTA if manifest.kind == "index" else None
    known = set(manifest.files) | {MANIFEST}
    for path in sorted(folder.rglob("*")):
        if path.is_dir() or (delta is not None and path.is_relative_to(delta)):
            continue
        if path.relative_to(folder).as_posix() not in known:
            yield Fault(path, "additional")
    if delta is not None and delta.is_dir():
        yield from _delta_faults(folder, sizes_only)


def segment_path(version: Path, number: int) -> Path:
    """The folder of an index version's update, counted from 1."""
    return version / DELTA / f"{number:06d}"


def segment_faults(folder: Path, manifest: Manifest, after: str, *, sizes_only: bool = False) -> Iterator[Fault]:
    """The faults of one update, which has to follow the manifest whose sha256 is `after`."""
    if manifest.kind != DELTA or manifest.about.get(AFTER) != after:
        yield Fault(folder / MANIFEST, "out of order")
    yield from folder_faults(folder, manifest, sizes_only=sizes_only)


def _delta_faults(version: Path, sizes_only: bool) -> Iterator[Fault]:
    there = sorted((version / DELTA).iterdir())
    numbered = [segment_path(version, number) for number in range(1, len(there) + 1)]
    after = file_sum(version / MANIFEST).sha256
    for expected, path in zip(numbered, there, strict=True):
        if path != expected:
            named = path.name.isdecimal() and path.name > expected.name
            yield Fault(expected, "missing") if named else Fault(path, "additional")
            return
        yield from segment_faults(path, Manifest.read(path), after, sizes_only=sizes_only)
        after = file_sum(path / MANIFEST).sha256


def _same(path: Path, expected: FileSum, sizes_only: bool) -> bool:
    if path.stat().st_size != expected.bytes:
        return False
    return sizes_only or file_sum(path) == expected
