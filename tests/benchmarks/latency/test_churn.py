"""Answers that mix releases, revisions or rules are found; an engine under changes gives none."""

from __future__ import annotations

import logging
from math import inf
from pathlib import Path

import pytest

from benchmarks.latency.churn import DONE, ERRORS, FAULTY, MEMORY, ChurnRun, checked, failures, logged, memory_line
from benchmarks.latency.churn_checks import (
    BACK_RELEASE,
    BACK_REVISION,
    BLOCKED_ITEM,
    DELETED_ITEM,
    EARLY_RELEASE,
    EARLY_REVISION,
    EARLY_RULES,
    OTHER_TITLE,
    UNKNOWN_ITEM,
    Activation,
    Checker,
    History,
    Revised,
    RulesWritten,
    Seen,
)
from benchmarks.latency.churn_load import Asked
from benchmarks.result_lines import Line

TITLES = {"a": "Mug", "b": "Cup", "c": "Jug"}
HISTORY = History(
    activations=[Activation(-inf, -inf, "r1", "i1"), Activation(10, 11, "r2", "i2"), Activation(20, 21, "r1", "i1")],
    revisions=[Revised(4, 5, "i1", 1, {"a": "Mug 1", "b": None}), Revised(6, 7, "i1", 2, {"b": "Cup"})],
    rules=[RulesWritten(8, 9, "v1", "c")],
)


def answer(begun: float, release: str = "r1", revision: int = 0, rules: str = "", **shown: str) -> Seen:
    return Seen("search", begun, begun + 0.5, release, revision, rules, list((shown or TITLES).items()))


def faults(*answers: Seen, history: History = HISTORY) -> list[list[str]]:
    return [found for _, found in Checker(history, TITLES).in_turn(answers)]


def test_answers_that_are_as_they_say_have_no_fault() -> None:
    assert (
        faults(
            answer(1),
            answer(3.8, revision=1, a="Mug 1", c="Jug"),  # from during the update
            answer(6.2, revision=1, a="Mug 1"),  # the next one is not seen yet
            answer(6.9, revision=2, a="Mug 1", b="Cup"),
            answer(12, revision=2, a="Mug 1", b="Cup", c="Jug"),  # the next release is being opened
            answer(13, "r2", rules="v1", a="Mug", b="Cup"),
            answer(22, revision=2, rules="v1", a="Mug 1"),
        )
        == [[]] * 7
    )


@pytest.mark.parametrize(
    ("mixed", "fault"),
    [
        (answer(5, "r2"), EARLY_RELEASE),
        (answer(5, "r3"), EARLY_RELEASE),
        (answer(1, revision=1, a="Mug 1"), EARLY_REVISION),
        (answer(9, revision=3), EARLY_REVISION),
        (answer(1, rules="v1", a="Mug"), EARLY_RULES),
        (answer(9, rules="v2"), EARLY_RULES),
        (answer(9, revision=2, a="Mug 1", d="Pot"), UNKNOWN_ITEM),
        (answer(9, revision=1, a="Mug 1", b="Cup"), DELETED_ITEM),
        (answer(9, revision=1, a="Mug 1")._replace(variants=["b"]), DELETED_ITEM),
        (answer(9, revision=1, a="Mug"), OTHER_TITLE),
        (answer(12, "r2", a="Mug 1"), OTHER_TITLE),  # of the release before
        (answer(9, revision=2, rules="v1", c="Jug"), BLOCKED_ITEM),
    ],
)
def test_a_mixed_answer_is_found(mixed: Seen, fault: str) -> None:
    assert faults(mixed) == [[fault]]


def test_a_caller_never_goes_back_but_where_a_release_became_live_again() -> None:
    new, old = answer(12, "r2"), answer(14)
    assert faults(new, old) == [[], [BACK_RELEASE]]
    assert faults(new, answer(22)) == [[], []]
    assert faults(answer(9, revision=2, a="Mug 1"), answer(9.5, revision=1, a="Mug 1")) == [[], [BACK_REVISION]]


def test_it_is_told_for_how_long_a_release_answered_that_was_live_no_more() -> None:
    checker = Checker(HISTORY, TITLES)
    assert [checker.seconds_behind(answer(at)) for at in (1, 10.5, 13, 22)] == [0, 0, 2, 0]
    assert checker.seconds_behind(answer(24, "r2")) == 3


def test_what_must_not_be_is_told() -> None:
    asked = [Asked([answer(1), answer(9, revision=1, b="Cup")], [])]
    lines = list(checked(HISTORY, TITLES, asked, stale=True))
    lines += [memory_line({"after warm-up": 100.0, "at the end": 125.0})]
    lines += [Line(measured=DONE, labels={"what": ERRORS}, unit="figure", summary={"n": 2.0})]
    assert failures(lines) == [
        "2 errors of callers",
        f"1 answers: {DELETED_ITEM}",
        "1 answers: is not what was written last, after a refresh",
        "memory grew by 25%",
    ]
    sound = checked(HISTORY, TITLES, [Asked([answer(1)], [])], stale=False)
    assert failures([*sound, memory_line({"after warm-up": 100.0, "at the end": 105.0})]) == []


def test_warnings_of_the_engine_are_kept() -> None:
    with logged() as found:
        logging.getLogger("serving.answering.reloader").warning("%s cannot be read", "release 1")
        logging.getLogger("serving.answering.reloader").info("nothing")
    assert found == ["release 1 cannot be read"]


@pytest.mark.slow
def test_an_engine_under_changes_gives_no_mixed_answer_and_the_bundle_is_left_alone(bundle: Path) -> None:
    before = sorted(path.relative_to(bundle) for path in bundle.rglob("*"))
    run = ChurnRun(bundle, seconds=4, publishes=4, updates=160, events=100, reloads=2, device="cpu")
    lines = list(run.lines())
    done = {line.labels["what"]: line.summary["n"] for line in lines if line.measured == DONE}
    assert {what: done[what] for what in list(done)[:5]} == {
        "publishes, rollbacks and activations": 4,
        "items updated": 160,
        "revisions of an index": 4,
        "events kept": 100,
        "rules written": 2,
    }
    assert (done["releases that answered"] or 0) > 1
    assert failures([line for line in lines if line.measured != MEMORY]) == []
    assert {line.labels["it"] for line in lines if line.measured == FAULTY} > {DELETED_ITEM, OTHER_TITLE}
    assert sorted(path.relative_to(bundle) for path in bundle.rglob("*")) == before
