"""What was live when, and the way back."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from indexing.bundle.activation_log import Move, read_moves, record_move, rollback_path
from indexing.bundle.bundle import Bundle
from indexing.bundle.releases import Release
from retrieval.errors import BadBundle

Publish = Callable[[int], Release]


def no_parent(name: str) -> None:
    return None


def test_a_rollback_goes_to_what_was_live_before_and_not_to_what_the_release_replaced_once(
    bundle: Bundle, publish: Publish
) -> None:
    for number in (1, 2, 3):
        publish(number)
    bundle.activate("r1", who="ada", at="2024-05-01T00:00:00+00:00")
    assert bundle.rollback_path() == ["r1", "r2", "r3", "r1"]
    assert [bundle.rollback().id for _ in range(3)] == ["r3", "r2", "r1"]
    with pytest.raises(BadBundle, match="no release that was live before r1: there is none to go back to"):
        bundle.rollback()
    assert bundle.current().id == "r1"


def test_every_move_is_recorded_and_staying_is_none(bundle: Bundle, publish: Publish) -> None:
    first = publish(1)
    publish(2)
    bundle.activate("r1", who="ada", at="2024-05-01")
    bundle.activate("r1")
    bundle.rollback(who="bob", at="2024-05-02")
    assert bundle.moves() == [
        Move("r1", None, "publish", first.who, first.created),
        Move("r2", "r1", "publish", first.who, "2024-01-01T00:00:02+00:00"),
        Move("r1", "r2", "activate", "ada", "2024-05-01"),
        Move("r2", "r1", "rollback", "bob", "2024-05-02"),
    ]


def test_a_bundle_from_before_moves_were_recorded_goes_back_by_its_parents(bundle: Bundle, publish: Publish) -> None:
    for number in (1, 2, 3):
        publish(number)
    (bundle.path / "activations.jsonl").unlink()
    assert bundle.rollback_path() == ["r1", "r2", "r3"]
    assert bundle.rollback().id == "r2"
    publish(4)
    assert bundle.rollback_path() == ["r1", "r2", "r4"]


def test_a_release_that_is_gone_is_passed_over(bundle: Bundle, publish: Publish) -> None:
    for number in (1, 2, 3):
        publish(number)
    (bundle.path / "releases" / "r2.json").unlink()
    assert bundle.rollback().id == "r1"
    assert bundle.rollback_path() == ["r1"]


def test_current_moved_by_hand_or_damaged_can_be_gone_on_from(bundle: Bundle, publish: Publish) -> None:
    publish(1)
    publish(2)
    (bundle.path / "CURRENT").write_text("r1\n")
    assert bundle.rollback_path() == ["r1"]
    (bundle.path / "CURRENT").write_bytes(b"\xff\n")
    assert bundle.activate("r2").id == bundle.current().id == "r2"


def test_a_torn_line_is_passed_over_and_the_next_one_stands_by_itself(tmp_path: Path) -> None:
    path, moves = tmp_path / "moves", [Move(f"r{n}", None, "publish", "añ\n", "2024") for n in range(3)]
    assert read_moves(path) == []
    record_move(path, moves[0])
    whole = path.read_bytes()
    for cut in (1, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole + whole[:cut])
        record_move(path, moves[1])
        found = [moves[0], moves[0], moves[1]] if cut == len(whole) - 1 else moves[:2]
        assert read_moves(path) == found


def test_a_move_that_was_recorded_and_never_made_counts_for_nothing() -> None:
    """Of any sequence of moves, each perhaps interrupted between the record and CURRENT, the way back is that of the
    moves that were made."""
    rng = random.Random(5)
    for _ in range(300):
        moves: list[Move] = []
        made: list[Move] = []
        live: str | None = None
        for _ in range(rng.randrange(1, 9)):
            way = rollback_path(made, live, no_parent)
            assert rollback_path(moves, live, no_parent) == way
            release, how = (
                (way[-2], "rollback") if len(way) > 1 and rng.random() < 0.3 else (rng.choice("abcd"), "publish")
            )
            if release == live:
                continue
            move = Move(release, live, how)  # type: ignore[arg-type]
            moves.append(move)
            if rng.random() < 0.7:
                made.append(move)
                live = release
        assert rollback_path(moves, live, no_parent) == rollback_path(made, live, no_parent)


def test_a_first_publication_that_was_interrupted_is_none(bundle: Bundle, publish: Publish) -> None:
    publish(1)
    (bundle.path / "CURRENT").unlink()
    assert bundle.rollback_path() == []
    bundle.publish(replace(bundle.release("r1"), id="r2", created="2025", parent=None, manifests={}))
    assert bundle.rollback_path() == ["r2"]
