"""The log of live releases: a line is appended to `activations.jsonl` before CURRENT changes, for rollbacks to read.

A job that is killed in between has logged a move that was never made. Every line names the release that was live when
it was written, so that the next line, or CURRENT for the last one, shows which moves were made.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal, TypeAlias

MoveKind: TypeAlias = Literal["publish", "activate", "rollback"]


@dataclass(frozen=True)
class Move:
    """One change of CURRENT from release `before`, None for the first, to `release`; `at` is an ISO 8601 time."""

    release: str
    before: str | None
    how: MoveKind
    who: str = ""
    at: str = ""


def record_move(path: Path, move: Move) -> None:
    """Append a line to the file and sync it, first completing a line that a killed writer left unfinished."""
    with path.open("ab+") as file:
        torn = False
        if file.tell():
            file.seek(-1, os.SEEK_END)
            torn = file.read() != b"\n"
        line = json.dumps(asdict(move), ensure_ascii=True)
        file.write(f"{chr(10) if torn else ''}{line}\n".encode("ascii"))
        file.flush()
        os.fsync(file.fileno())


def read_moves(path: Path) -> list[Move]:
    """The logged moves, oldest first; lines that cannot be read are skipped, and a missing file holds none."""
    try:
        lines = path.read_bytes().splitlines()
    except FileNotFoundError:
        return []
    return [move for line in lines if (move := _parsed(line)) is not None]


def rollback_path(moves: Sequence[Move], live: str | None, parent_of: Callable[[str], str | None]) -> list[str]:
    """The releases that successive rollbacks lead to, the farthest first, and the live release last.

    A publication or an activation extends the path by a release; a rollback shortens it. Releases from before the first
    logged move are found through `parent_of`, which returns the release that one replaced.

    >>> moves = [Move("b", "a", "publish"), Move("c", "b", "publish"), Move("b", "c", "rollback")]
    >>> rollback_path(moves, "b", lambda name: None), rollback_path(moves[:2], "b", lambda name: None)
    (['a', 'b'], ['a', 'b'])
    """
    path: list[str] = []
    undone: list[str] = []  # the path before the last move, in case that was logged but not made
    for move in [*moves, None]:
        standing = live if move is None else move.before
        if standing is None:
            path = []
        elif not path or path[-1] != standing:  # the last move was never made, or CURRENT was changed by hand
            path = undone if undone and undone[-1] == standing else [*path, standing]
        if move is not None:
            undone = path
            path = _rolled_back(path, move.release) if move.how == "rollback" else [*path, move.release]
    return [*_ancestors(path[0], parent_of), *path] if path else []


def _rolled_back(path: list[str], release: str) -> list[str]:
    return path[: len(path) - path[::-1].index(release)] if release in path else [release]


def _ancestors(release: str, parent_of: Callable[[str], str | None]) -> list[str]:
    found: list[str] = []
    while (parent := parent_of(release)) is not None and parent not in found:
        found.insert(0, parent)
        release = parent
    return found


def _parsed(line: bytes) -> Move | None:
    try:
        return Move(**json.loads(line))
    except (ValueError, TypeError):
        return None
