"""Removes old releases, and parts that no release names."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from indexing.bundle.atomic_files import sync, writing_to
from indexing.bundle.bundle import Bundle
from indexing.bundle.releases import KINDS, Release
from retrieval.errors import BadConfig

MODELS = ("towers", "ranker")  # parts whose derived files lie in runtime/ under the part's name


class Pruned(NamedTuple):
    """What was removed: releases by name, parts and derived files as kind/name, and the bytes that were freed."""

    releases: tuple[str, ...]
    parts: tuple[str, ...]
    bytes: int


def kept_releases(releases: Sequence[Release], rollback_path: Sequence[str], keep: int) -> set[str]:
    """The names of the `keep` last releases of the rollback path, the live one included, and of the newest release,
    which may be one that a gate refused or that was rolled back.

    `releases` are the recorded ones, oldest first; `rollback_path` is that of the bundle.
    """
    newest_first = dict.fromkeys(reversed(rollback_path))  # a release may be on the path more than once
    return {*list(newest_first)[:keep], *(release.id for release in releases[-1:])}


def prune(bundle: Bundle, keep: int) -> Pruned:
    """Remove all releases but those of `kept_releases`, and the parts that no kept release names.

    Releases are removed first, then parts, each by a rename into .staging. If the job is killed at any instruction, all
    remaining releases are complete, and the next run removes parts that are left over. Engines that serve a removed
    release are not disturbed: their files are open. Raises BadConfig for a `keep` below 1, BadBundle where another
    process writes or no release is live, and CorruptBundle where the live release is damaged, since older ones may be
    needed to restore it.
    """
    if keep < 1:
        raise BadConfig(f"keep is {keep}; it has to be 1 or more, as the live release is kept")
    with bundle.lock(), writing_to(bundle.path):
        bundle.current()
        releases = bundle.releases()
        kept = kept_releases(releases, bundle.rollback_path(), keep)
        gone = [release.id for release in releases if release.id not in kept]
        for name in gone:
            _remove(bundle, bundle.path / "releases" / f"{name}.json")
        unnamed = _unnamed(bundle, [release for release in releases if release.id in kept])
        freed = sum(_remove(bundle, path) for path in unnamed)
    return Pruned(tuple(gone), tuple(f"{path.parent.name}/{path.name}" for path in unnamed), freed)


def discard(bundle: Bundle, parts: Mapping[str, str]) -> None:
    """Remove those of the parts, given as names by kind, that no recorded release names."""
    with bundle.lock(), writing_to(bundle.path):
        named = {part for release in bundle.releases() for part in release.parts().items()}
        for kind, name in parts.items():
            if (kind, name) not in named and bundle.has(kind, name):
                _remove(bundle, bundle.path / kind / name)


def _unnamed(bundle: Bundle, kept: Iterable[Release]) -> list[Path]:
    """The folders of parts that no kept release names, and of derived files that belong to no kept model."""
    named = {part for release in kept for part in release.parts().items()}
    named |= {("runtime", name) for kind, name in named if kind in MODELS}
    folders = [path for kind in (*KINDS, "runtime") for path in sorted((bundle.path / kind).glob("*"))]
    return [path for path in folders if (path.parent.name, path.name) not in named]


def _remove(bundle: Bundle, path: Path) -> int:
    """Remove a file or a folder; returns the freed bytes: those of files without a further hard link."""
    files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
    states = [file.stat() for file in files]
    aside = bundle.path / ".staging" / f"pruned-{path.parent.name}-{path.name}"
    path.rename(aside)
    sync(path.parent)
    if aside.is_dir():
        shutil.rmtree(aside)
    else:
        aside.unlink()
    return sum(state.st_size for state in states if state.st_nlink == 1)
