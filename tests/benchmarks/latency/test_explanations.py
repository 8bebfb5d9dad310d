"""Whether the cause that an explanation names is what moves the score: measured by asking without it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from benchmarks.latency import explanations
from benchmarks.latency.explanations import ExplainRun
from benchmarks.result_lines import Line
from serving.answering.explaining import explain as stage
from serving.answering.explaining.leave_one_out import Effects, leave_one_out

N = 50


@pytest.fixture(autouse=True)
def enough_requests(monkeypatch: pytest.MonkeyPatch) -> None:
    """So many that a share of them is not decided by one."""
    monkeypatch.setattr(explanations, "FEW", N)


def measured(bundle: Path) -> dict[tuple[str, ...], Line]:
    lines = ExplainRun(bundle, device="cpu", quick=True).lines()
    return {(line.measured, *line.labels.values()): line for line in lines}


def test_a_named_cause_moves_the_score_more_than_another(bundle: Path) -> None:
    lines = measured(bundle)
    for cause in ("event", "word"):
        summary = lines["faithful", cause].summary
        assert summary["n"] == N
        assert (summary["lowers more"] or 0) >= 0.9
        assert (summary["moves more"] or 0) >= 0.8
    assert {call for measured, call, *_ in lines if measured == "explaining"} == {"recommend", "search"}
    assert lines["explaining", "recommend", "why not"].summary["n"] == N


def test_a_cause_that_is_not_the_cause_is_told_apart(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong(*asked: Any) -> Effects:
        found = leave_one_out(*asked)
        return replace(found, of_items=100 - found.of_items, of_words=100 - found.of_words)

    monkeypatch.setattr(stage, "leave_one_out", wrong)
    lines = measured(bundle)
    assert all((lines["faithful", cause].summary["lowers more"] or 0) < 0.5 for cause in ("event", "word"))
