"""What each gate lets pass and what it refuses, at its edges."""

from __future__ import annotations

from pathlib import Path

import pytest

from indexing.bundle.publish_gates import (
    answers_kept,
    items_kept,
    overlap,
    recall_kept,
    recall_of,
    recall_reached,
    whole,
)
from indexing.bundle.verify import Fault, Verification


@pytest.mark.parametrize(
    ("items", "live", "gone", "passed"),
    [
        (100, 100, 0, True),
        (70, 100, 30, True),
        (69, 100, 31, False),
        (130, 100, 0, True),
        (131, 100, 0, False),
        (100, 100, 30, True),
        (100, 100, 31, False),  # as many, but others
        (50, 100, 50, False),
    ],
)
def test_items_may_come_and_go_up_to_the_limit(items: int, live: int, gone: int, passed: bool) -> None:
    assert items_kept(items, live, gone, 0.3).passed is passed


def test_recall_has_to_reach_its_target() -> None:
    assert recall_reached(0.95, 0.95, 100).passed
    assert not recall_reached(0.9499, 0.95, 100).passed


def test_canaries_may_lose_two_points_and_gain_any() -> None:
    before = [1.0] * 800 + [0.0] * 200
    assert recall_kept([1.0] * 780 + [0.0] * 220, before, 10).passed
    assert not recall_kept([1.0] * 779 + [0.0] * 221, before, 10).passed
    assert recall_kept([1.0] * 1000, before, 10).passed


def test_of_few_canaries_one_may_be_lost_and_not_two() -> None:
    before = [1.0, 1.0, 1.0, 0.0]
    assert recall_kept([1.0, 1.0, 0.0, 0.0], before, 10).passed
    assert not recall_kept([1.0, 0.0, 0.0, 0.0], before, 10).passed


def test_half_of_the_first_items_have_to_stay() -> None:
    old = [list("abcdefghijz")]
    assert answers_kept([list("abcdevwxyz")], old, 10, "canaries").passed
    assert not answers_kept([list("abcduvwxyz")], old, 10, "canaries").passed
    assert answers_kept([list("abcdefghij"), []], [*old, []], 10, "canaries").figures["overlap"] == 1.0
    assert overlap(["a"], []) == 0.0


def test_recall_counts_what_the_places_could_hold() -> None:
    answers = [["a", "b", "c"], ["a", "b", "c"]]
    assert recall_of(answers, [["c"], list("abxyz")], 2).tolist() == [0.0, 1.0]


def test_a_damaged_file_is_named() -> None:
    sound = whole(Verification("release r", 3, 10, ()))
    assert (sound.passed, sound.why) == (True, "3 files of 10 bytes are as they were written")
    damaged = whole(Verification("release r", 3, 10, (Fault(Path("x/y.bin"), "changed"),)))
    assert (damaged.passed, damaged.why) == (False, "x/y.bin is changed")


def test_what_was_overruled_is_said_in_the_record() -> None:
    gate = recall_reached(0.5, 0.95, 100)
    assert gate.as_json(overruled=True)["overruled"] is True
    assert "overruled" not in gate.as_json()
