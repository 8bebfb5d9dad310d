"""Removes releases that nobody goes back to, and parts that no release names."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from indexing.bundle.atomic_files import sync, writing_to
from indexing.bundle.bundle import Bundle
from indexing.bundle.releases import KINDS, Release
from retrieval.errors import BadConfig

MODELS = ("towers", "ranker")  # parts whose graphs are kept in runtime/ under their own name


class Pruned(NamedTuple):
    """What was removed: releases by name, parts and derived files as kind/name, and the bytes that are free again."""

    releases: tuple[str, ...]
    parts: tuple[str, ...]
    bytes: int


def kept_releases(releases: Sequence[Release], way_back: Sequence[str], keep: int) -> set[str]:
    """The names of the live release and of those before it on the way back, `keep` in all, and of the newest release
    of all, which may be one that a gate refused or that was rolled back.

    `releases` are recorded, the oldest first; `way_back` is `Bundle.way_back`.
    """
    newest_first = dict.fromkeys(reversed(way_back))  # to and fro, a release stands on the way more than once
    return {*list(newest_first)[:keep], *(release.id for release in releases[-1:])}


def prune(bundle: Bundle, keep: int) -> Pruned:
    """Remove all but the kept releases and what they name; see `kept_releases`.

    Releases go first, then parts, each renamed into .staging before its files are removed: killed at any instruction,
    it leaves whole releases, and perhaps parts that no release names, which the next run removes. An engine that
    answers from a release that is removed goes on: whatever it reads is open. Raises BadConfig for a `keep` below 1,
    BadBundle where another process writes or no release is live, CorruptBundle where the live one is damaged: what it
    could be restored from is then kept.
    """
    if keep < 1:
        raise BadConfig(f"keep is {keep}; keep 1 release or more, the live one")
    with bundle.lock(), writing_to(bundle.path):
        bundle.current()
        releases = bundle.releases()
        kept = kept_releases(releases, bundle.way_back(), keep)
        gone = [release.id for release in releases if release.id not in kept]
        for name in gone:
            _remove(bundle, bundle.path / "releases" / f"{name}.json")
        unnamed = _unnamed(bundle, [release for release in releases if release.id in kept])
        freed = sum(_remove(bundle, path) for path in unnamed)
    return Pruned(tuple(gone), tuple(f"{path.parent.name}/{path.name}" for path in unnamed), freed)


def discard(bundle: Bundle, parts: Mapping[str, str]) -> None:
    """Remove parts, their names by kind, as far as no recorded release names them: what a writer made on its way."""
    with bundle.lock(), writing_to(bundle.path):
        named = {part for release in bundle.releases() for part in release.parts().items()}
        for kind, name in parts.items():
            if (kind, name) not in named and bundle.has(kind, name):
                _remove(bundle, bundle.path / kind / name)


def _unnamed(bundle: Bundle, kept: Iterable[Release]) -> list[Path]:
    """The folders of parts that no kept release names, and of derived files that are of no kept model."""
    named = {part for release in kept for part in release.parts().items()}
    named |= {("runtime", name) for kind, name in named if kind in MODELS}
    folders = [path for kind in (*KINDS, "runtime") for path in sorted((bundle.path / kind).glob("*"))]
    return [path for path in folders if (path.parent.name, path.name) not in named]


def _remove(bundle: Bundle, path: Path) -> int:
    """Remove a file or a folder; returns the bytes of its files that have no other name."""
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
