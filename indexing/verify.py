"""Checks that what is on the disk is what was written: every file, by name."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from indexing.manifest import MANIFEST, FileSum, Manifest, file_sum
from retrieval.errors import CorruptBundle


class Fault(NamedTuple):
    """One file that is not as it was written."""

    path: Path
    what: str  # missing, changed or additional

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
    """The files of an artefact folder that are missing, changed or additional.

    `sizes_only` compares sizes and reads no contents: what a reader does at open. A file cut short or lost is seen, a
    flipped byte is not.
    """
    for name, expected in manifest.files.items():
        path = folder / name
        if not path.is_file() or path.is_symlink():
            yield Fault(path, "missing")
        elif not _same(path, expected, sizes_only):
            yield Fault(path, "changed")
    known = set(manifest.files) | {MANIFEST}
    for path in sorted(folder.rglob("*")):
        if not path.is_dir() and path.relative_to(folder).as_posix() not in known:
            yield Fault(path, "additional")


def _same(path: Path, expected: FileSum, sizes_only: bool) -> bool:
    if path.stat().st_size != expected.bytes:
        return False
    return sizes_only or file_sum(path) == expected
