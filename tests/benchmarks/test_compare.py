"""Comparing: what is planted is named by stage, what is noise raises no alarm, and unlike machines are refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import false_discovery_control
from typer.testing import CliRunner

from benchmark_fakes import FakeTime
from benchmarks.cli import bench
from benchmarks.compare import changes, compared, holm, interleaved, line_pairs, worse_than
from benchmarks.environment import Probe
from benchmarks.load import Call
from benchmarks.results import Line, Recorded, Run, append, sampled
from retrieval.errors import BadData

STAGES = {"history": 2.0, "search": 4.0, "rerank": 40.0}
CALLS = 60


def noisy_engine(fake_time: FakeTime, rng: np.random.Generator, **planted: float) -> list[Call]:
    """Calls whose stages vary by a tenth, and whose machine slows and quickens; some stages have more to do."""

    def made(at: int) -> Call:
        def call():
            slow = 1.0 + 0.3 * np.sin(fake_time.now)
            stages = {name: (ms + planted.get(name, 0.0)) * slow * rng.lognormal(0, 0.1) for name, ms in STAGES.items()}
            return fake_time.call(**stages)()

        return call

    return [made(at) for at in range(CALLS)]


def alarms(fake_time: FakeTime, seed: int, **planted: float) -> set[str]:
    """The stages that a comparison calls changed."""
    rng = np.random.default_rng(seed)
    before, after = noisy_engine(fake_time, rng), noisy_engine(fake_time, rng, **planted)
    found = changes(list(line_pairs("recommend", *interleaved(before, after, tools=fake_time.tools()))))
    return {one.labels["stage"] for one in found if one.verdict != "same"}


@pytest.mark.parametrize("stage", ["search", "rerank"])
def test_ten_milliseconds_planted_in_a_stage_are_named_by_that_stage(fake_time: FakeTime, stage: str) -> None:
    assert alarms(fake_time, seed=1, **{stage: 10.0}) == {stage, "end to end"}


def test_with_nothing_planted_twenty_repeats_raise_no_alarm(fake_time: FakeTime) -> None:
    assert [alarms(fake_time, seed) for seed in range(20)] == [set()] * 20


def test_what_is_surely_different_but_small_is_no_alarm() -> None:
    before = np.linspace(10, 11, 200)
    (change,) = changes([(sampled("latency", {}, "ms", before), sampled("latency", {}, "ms", before * 1.03))])
    assert change.p < 0.01
    assert change.verdict == "same"


def test_a_gain_is_no_regression_and_the_threshold_is_the_users() -> None:
    before = list(np.linspace(10, 11, 100))
    pairs = [
        (sampled("latency", {"stage": name}, "ms", before), sampled("latency", {"stage": name}, "ms", after))
        for name, after in {"slower": [1.2 * x for x in before], "quicker": [0.5 * x for x in before]}.items()
    ]
    found = changes(pairs)
    assert [one.verdict for one in found] == ["worse", "better"]
    assert [one.labels["stage"] for one in worse_than(found, 0.1)] == ["slower"]
    assert worse_than(found, 0.3) == []


def test_of_shares_and_rates_more_is_better() -> None:
    before, after = [0.5] * 30 + [0.6] * 30, [0.4] * 30 + [0.5] * 30
    (change,) = changes([(sampled("quality", {}, "share", before), sampled("quality", {}, "share", after))])
    assert change.verdict == "worse"
    assert change.ratio == pytest.approx(0.45 / 0.55)


def test_few_samples_and_summaries_alone_are_shown_and_never_an_alarm() -> None:
    alone = [Line(measured="build", labels={}, unit="s", summary={"seconds": value}) for value in (1.0, 9.0)]
    few = [sampled("first answer", {}, "s", [value] * 3) for value in (1.0, 9.0)]
    found = changes([(alone[0], alone[1]), (few[0], few[1])])
    assert [(one.before, one.after, one.verdict) for one in found] == [(1.0, 9.0, "same")] * 2
    assert all(np.isnan(one.p) for one in found)


def test_holm_is_never_laxer_than_benjamini_hochberg_nor_stricter_than_bonferroni() -> None:
    p = np.random.default_rng(0).random(30) ** 4
    found = holm(p)
    assert (found >= false_discovery_control(p) - 1e-12).all()
    assert (found <= np.minimum(p * len(p), 1)).all()
    assert (np.diff(found[np.argsort(p)]) >= 0).all()


def test_runs_on_machines_that_differ_are_refused(make_run: Callable[..., Run]) -> None:
    line = sampled("latency", {}, "ms", [1.0] * 20)
    before = [Recorded(make_run(), line)]
    with pytest.raises(BadData, match="machine was not the same"):
        compared(before, [Recorded(make_run(probe=Probe(100.0, 8.0)), line)])
    assert len(compared(before, [Recorded(make_run(probe=Probe(95.0, 10.5)), line)])) == 1
    with pytest.raises(BadData, match="nothing in common"):
        compared(before, [Recorded(make_run(), sampled("load", {}, "ms", [1.0]))])


def test_the_command_ends_with_3_after_a_regression_and_names_it(tmp_path: Path, make_run: Callable[..., Run]) -> None:
    rng = np.random.default_rng(0)
    for name, ms in (("a", 10.0), ("b", 13.0), ("c", 10.0)):
        line = sampled("latency", {"call": "search", "stage": "rerank"}, "ms", ms + rng.random(100))
        append(tmp_path / name, make_run(), [line])
    ended = CliRunner().invoke(bench, ["compare", str(tmp_path / "a"), str(tmp_path / "b")])
    assert ended.exit_code == 3
    assert "search, rerank +" in ended.stderr
    for arguments in (["a", "c"], ["b", "a"]):
        paths = [str(tmp_path / name) for name in arguments]
        assert CliRunner().invoke(bench, ["compare", *paths]).exit_code == 0
    allowed = ["compare", str(tmp_path / "a"), str(tmp_path / "b"), "--threshold", "0.5", "--json"]
    assert CliRunner().invoke(bench, allowed).exit_code == 0
