"""What was live when: a line is added to `activations.jsonl` before CURRENT moves, so that a rollback knows its way.

A job that is killed between the two has recorded a move that was never made. Every line names the release that was live
when it was written, so the next line, or CURRENT after the last, tells the moves that were made from those that were
not.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal, TypeAlias

How: TypeAlias = Literal["publish", "activate", "rollback"]


@dataclass(frozen=True)
class Move:
    """One move of CURRENT: `release` takes the place of `before`, None for the first. `at` is an ISO 8601 time."""

    release: str
    before: str | None
    how: How
    who: str = ""
    at: str = ""


def record_move(path: Path, move: Move) -> None:
    """Add a line to the file and sync it; what a killed writer left of its own line is ended first."""
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
    """Every move as recorded, the oldest first; a line that cannot be read is passed over, no file is no move."""
    try:
        lines = path.read_bytes().splitlines()
    except FileNotFoundError:
        return []
    return [move for line in lines if (move := _parsed(line)) is not None]


def way_back(moves: Sequence[Move], live: str | None, parent_of: Callable[[str], str | None]) -> list[str]:
    """The live release, last, after those that a rollback goes to, one after the other.

    A publication or an activation goes on from what was live; a rollback takes its way back. Before the first move that
    was recorded, a release replaced the one that `parent_of` names.

    >>> moves = [Move("b", "a", "publish"), Move("c", "b", "publish"), Move("b", "c", "rollback")]
    >>> way_back(moves, "b", lambda name: None), way_back(moves[:2], "b", lambda name: None)
    (['a', 'b'], ['a', 'b'])
    """
    way: list[str] = []
    undone: list[str] = []  # the way as it was before the move that was recorded last
    for move in [*moves, None]:
        standing = live if move is None else move.before
        if standing is None:
            way = []
        elif not way or way[-1] != standing:  # the last move was never made, or CURRENT was moved by hand
            way = undone if undone and undone[-1] == standing else [*way, standing]
        if move is not None:
            undone = way
            way = _rolled_back(way, move.release) if move.how == "rollback" else [*way, move.release]
    return [*_ancestors(way[0], parent_of), *way] if way else []


def _rolled_back(way: list[str], release: str) -> list[str]:
    return way[: len(way) - way[::-1].index(release)] if release in way else [release]


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
