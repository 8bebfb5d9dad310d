"""Compares files on disk with the checksums of their manifests.

`shortlist release verify` and every change of CURRENT read every byte. Opening a release reads files of up to
READ_AT_OPEN bytes, each once in a process as long as it is not modified; of larger files it compares the size only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, TypeAlias

from indexing.bundle.manifest import MANIFEST, FileSum, Manifest, file_sum
from retrieval.errors import CorruptBundle
from retrieval.fingerprint import remembered_sha256

READ_AT_OPEN = 256 << 20  # bytes: a quarter of a second for a core with SHA instructions
DELTA = "delta"  # folder of an index version that updates are appended to
AFTER = "after"  # key in an update's manifest: the sha256 of the manifest before it

Check: TypeAlias = Callable[[Path, FileSum], bool]


class Fault(NamedTuple):
    """A file that is not as it was written."""

    path: Path
    what: str  # missing, changed, additional or out of order

    def __str__(self) -> str:
        """As text."""
        return f"{self.path} is {self.what}"


@dataclass(frozen=True)
class Verification:
    """The result of a verification."""

    subject: str  # what was verified: a release or a folder
    files: int  # how many were compared
    bytes: int
    faults: tuple[Fault, ...]

    @property
    def sound(self) -> bool:
        """Whether every file is as it was written."""
        return not self.faults

    def require_sound(self) -> None:
        """Raise CorruptBundle, naming the first files, unless all are as they were written."""
        if self.faults:
            named = "; ".join(map(str, self.faults[:5])) + ("; ..." if len(self.faults) > 5 else "")
            raise CorruptBundle(
                f"{self.subject} is damaged in {len(self.faults)} files: {named}; restore them from a copy, build "
                "again, or roll back to an earlier release"
            )


def as_written(path: Path, expected: FileSum) -> bool:
    """Whether a file is as it was written; reads it now."""
    return path.stat().st_size == expected.bytes and file_sum(path) == expected


def as_opened(path: Path, expected: FileSum) -> bool:
    """Whether a file is as it was written, as far as opening checks; see the module."""
    if path.stat().st_size != expected.bytes:
        return False
    return expected.bytes > READ_AT_OPEN or remembered_sha256(path) == expected.sha256


def verification(subject: str, parts: Mapping[Path, str | None], check: Check = as_written) -> Verification:
    """Verify the folders of parts; `parts` maps each to the sha256 that its manifest must have, None for any.

    Raises BadBundle for a manifest of another format.
    """
    with ThreadPoolExecutor(max(1, len(parts))) as pool:
        found = list(pool.map(lambda part: _examined(part[0], part[1], check), parts.items()))
    sums = [file for _, files in found for file in files]
    faults = tuple(fault for part, _ in found for fault in part)
    return Verification(subject, len(sums), sum(file.bytes for file in sums), faults)


def _examined(folder: Path, pinned: str | None, check: Check) -> tuple[list[Fault], list[FileSum]]:
    """The faults of a part, and the files that it should hold."""
    path = folder / MANIFEST
    if not path.is_file():
        return [Fault(path if folder.is_dir() else folder, "missing")], []
    try:
        manifest = Manifest.read(folder)
    except CorruptBundle:
        return [Fault(path, "changed")], []
    changed = pinned is not None and file_sum(path).sha256 != pinned
    own = [Fault(path, "changed")] if changed else []
    return [*own, *folder_faults(folder, manifest, check)], [*manifest.files.values(), *_delta_files(folder, manifest)]


def folder_faults(folder: Path, manifest: Manifest, check: Check = as_written) -> Iterator[Fault]:
    """The files of a part that are missing, changed or additional; for an index with those of its updates."""
    for name, expected in manifest.files.items():
        path = folder / name
        if not path.is_file() or path.is_symlink():
            yield Fault(path, "missing")
        elif not check(path, expected):
            yield Fault(path, "changed")
    delta = folder / DELTA if manifest.kind == "index" else None
    known = set(manifest.files) | {MANIFEST}
    for path in sorted(folder.rglob("*")):
        if path.is_dir() or (delta is not None and path.is_relative_to(delta)):
            continue
        if path.relative_to(folder).as_posix() not in known:
            yield Fault(path, "additional")
    if delta is not None and delta.is_dir():
        yield from _delta_faults(folder, check)


def _delta_files(folder: Path, manifest: Manifest) -> Iterator[FileSum]:
    """The files that the updates of an index should hold, as far as their manifests can be read."""
    if manifest.kind == "index":
        for path in sorted((folder / DELTA).glob(f"*/{MANIFEST}")):
            with suppress(CorruptBundle):
                yield from Manifest.read(path.parent).files.values()


def segment_path(version: Path, number: int) -> Path:
    """The folder of an index version's update number `number`, counted from 1."""
    return version / DELTA / f"{number:06d}"


def segment_faults(folder: Path, manifest: Manifest, after: str, check: Check = as_written) -> Iterator[Fault]:
    """The faults of an update, which has to follow the manifest of sha256 `after`."""
    if manifest.kind != DELTA or manifest.about.get(AFTER) != after:
        yield Fault(folder / MANIFEST, "out of order")
    yield from folder_faults(folder, manifest, check)


def _delta_faults(version: Path, check: Check) -> Iterator[Fault]:
    there = sorted((version / DELTA).iterdir())
    numbered = [segment_path(version, number) for number in range(1, len(there) + 1)]
    after = file_sum(version / MANIFEST).sha256
    for expected, path in zip(numbered, there, strict=True):
        if path != expected:
            named = path.name.isdecimal() and path.name > expected.name
            yield Fault(expected, "missing") if named else Fault(path, "additional")
            return
        try:
            manifest = Manifest.read(path)
        except CorruptBundle:
            yield Fault(path / MANIFEST, "changed")
            return
        yield from segment_faults(path, manifest, after, check)
        after = file_sum(path / MANIFEST).sha256
