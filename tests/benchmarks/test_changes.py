"""Changes between runs: what is surely worse is an alarm, what is noise is none, and unlike machines are refused."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import false_discovery_control
from typer.testing import CliRunner

from benchmarks.changes import changes, compared, holm, worse_than
from benchmarks.cli.app import bench
from benchmarks.environment import Probe
from benchmarks.result_lines import Line, Recorded, Run, Unit, append, sampled
from retrieval.errors import BadData

STAGES = {"history": 2.0, "search": 4.0, "rerank": 40.0}


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
    assert 0.8 < change.low < change.ratio < change.high < 0.85


@pytest.mark.parametrize(("measured", "unit"), [("latency", "ms"), ("rerank", "ms"), ("quality", "share")])
def test_the_interval_of_a_change_holds_the_truth_at_least_as_often_as_it_says(measured: str, unit: Unit) -> None:
    rng, held, wide = np.random.default_rng(5), 0, []
    for _ in range(200):
        request = rng.lognormal(0, 0.3, 80)
        before, after = (factor * request * rng.lognormal(0, 0.1, 80) for factor in (1.0, 1.2))
        if measured == "rerank":
            rng.shuffle(after)
        (change,) = changes([(sampled(measured, {}, unit, before), sampled(measured, {}, unit, after))])
        held += change.low <= 1.2 <= change.high
        wide.append(change.high - change.low)
    assert held >= 184
    assert np.mean(wide) < (0.45 if measured == "rerank" else 0.1)


def test_few_samples_and_summaries_alone_are_shown_and_never_an_alarm() -> None:
    alone = [Line(measured="build", labels={}, unit="s", summary={"seconds": value}) for value in (1.0, 9.0)]
    few = [sampled("first answer", {}, "s", [value] * 3) for value in (1.0, 9.0)]
    found = changes([(alone[0], alone[1]), (few[0], few[1])])
    assert [(one.before, one.after, one.verdict) for one in found] == [(1.0, 9.0, "not tested")] * 2
    assert worse_than(found, 0.0) == []
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
    with pytest.raises(BadData, match="machine's speed differed"):
        compared(before, [Recorded(make_run(probe=Probe(100.0, 8.0)), line)])
    assert len(compared(before, [Recorded(make_run(probe=Probe(95.0, 10.5)), line)])) == 1
    with pytest.raises(BadData, match="nothing in common"):
        compared(before, [Recorded(make_run(), sampled("load", {}, "ms", [1.0]))])


def test_only_the_runs_that_are_compared_must_be_of_one_machine(make_run: Callable[..., Run]) -> None:
    line = sampled("latency", {}, "ms", [1.0] * 20)
    grown = [Recorded(make_run(day, probe=Probe(speed, 10.0)), line) for day, speed in ((1, 76.7), (2, 203.0))]
    assert [one.verdict for one in compared(grown, grown)] == ["same"]
    quality = Line(measured="quality", labels={}, unit="share", summary={"mean": 0.5, "n": 9.0}, samples=[0.5] * 9)
    sides = [[Recorded(make_run(probe=Probe(speed, 10.0)), quality)] for speed in (76.7, 203.0)]
    assert [one.verdict for one in compared(*sides)] == ["same"]
    noisy = replace(make_run(), ended=Probe(80.0, 10.0))
    with pytest.raises(BadData, match="machine's speed differed"):
        compared([Recorded(noisy, line)], [Recorded(replace(noisy, ended=noisy.probe), line)])


def run_on(machine: Run, rng: np.random.Generator, slower: float, **planted: float) -> list[Recorded]:
    """Two kinds of figures of every stage: one call at a time, and callers who wait, told by their histogram alone."""
    found = []
    for stage, ms in STAGES.items():
        spent = (ms + planted.get(stage, 0.0)) * slower * rng.lognormal(0, 0.1, size=400)
        found.append(sampled("latency", {"call": "recommend", "stage": stage}, "ms", spent))
        load = sampled("load", {"call": stage, "load": "closed", "callers": "2"}, "ms", spent[::-1])
        found.append(replace(load, samples=()))
    return [Recorded(machine, line) for line in found]


@pytest.mark.parametrize("slower", [1.0, 1.08])
def test_a_slower_machine_within_tolerance_is_no_alarm_in_twenty_repeats(
    make_run: Callable[..., Run], slower: float
) -> None:
    for seed in range(20):
        rng = np.random.default_rng(seed)
        before = run_on(make_run(), rng, 1.0)
        after = run_on(make_run(probe=Probe(100.0 / slower, 10.0)), rng, slower)
        assert {one.verdict for one in compared(before, after)} == {"same"}
        assert {one.verdict for one in compared(after, before)} == {"same"}


def test_a_stage_that_is_slower_beyond_its_machine_is_named(make_run: Callable[..., Run]) -> None:
    rng = np.random.default_rng(0)
    before = run_on(make_run(), rng, 1.0)
    after = run_on(make_run(probe=Probe(100.0 / 1.08, 10.0)), rng, 1.08, search=1.0)
    found = [one for one in compared(before, after) if one.verdict != "same"]
    assert [(one.measured, *one.labels.values()) for one in found] == [
        ("latency", "recommend", "search"),
        ("load", "search", "closed", "2"),
    ]
    assert all(one.beyond == pytest.approx(1.25, abs=0.03) for one in found)
    assert worse_than(found, 0.3) == []  # with what the machine explains it would be more


def test_quick_runs_and_other_settings_are_not_compared_with_full_ones(make_run: Callable[..., Run]) -> None:
    def of(ms: float, **data: str) -> Recorded:
        return Recorded(make_run(**data), sampled("latency", {}, "ms", [ms] * 20))

    both = [of(1.0, bundle="a", release="1"), of(9.0, bundle="a", quick="yes")]
    (change,) = compared(both, [of(1.0, bundle="b", release="2")])
    assert (change.before, change.after) == (1.0, 1.0)
    with pytest.raises(BadData, match="nothing in common"):
        compared(both, [of(1.0, threads="1")])


def test_names_of_data_count_where_a_file_has_several(make_run: Callable[..., Run]) -> None:
    def of(data: str, share: float) -> Recorded:
        return Recorded(make_run(data=data), sampled("quality", {}, "share", [share] * 20))

    found = compared([of("beauty", 0.1), of("homes", 0.5)], [of("homes", 0.5)])
    assert [(one.before, one.after) for one in found] == [(0.5, 0.5)]
    assert len(compared([of("homes", 0.5)], [of("homes, renamed", 0.5)])) == 1


def test_requests_of_another_number_are_not_paired() -> None:
    values = [0.0, 1.0] * 40
    before = Line(measured="quality", labels={}, unit="share", summary={"n": 80.0}, samples=values)
    shifted = Line(measured="quality", labels={}, unit="share", summary={"n": 81.0}, samples=[*values[::-1], 0.0])
    (change,) = changes([(before, shifted)])
    assert (change.after, change.verdict) == (pytest.approx(40 / 81), "same")


def test_what_cannot_be_tested_is_named_by_figure_where_it_changed() -> None:
    def peer(**summary: float) -> Line:
        return Line(measured="peer", labels={"peer": "als"}, unit="figure", summary=summary)

    found = changes([(peer(MB=10.0, seconds=5.0, lost=0.0), peer(MB=10.4, seconds=9.0, lost=3.0))])
    assert [(one.labels["figure"], one.ratio, one.verdict) for one in found] == [
        ("seconds", 1.8, "not tested"),
        ("lost", np.inf, "not tested"),
    ]


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
