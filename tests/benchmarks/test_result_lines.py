"""Results: lines that stand alone, files that only grow, percentiles that are figures."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from itertools import count
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.environment import Probe, machine, probe
from benchmarks.histogram import BUCKETS_PER_DOUBLING, bucket_counts, values_in
from benchmarks.result_lines import Line, Run, append, begin_run, latest, percentiles, read, sampled
from benchmarks.terminal import record, run_context
from indexing.bundle.bundle import Bundle
from retrieval.data.dataset import load
from retrieval.errors import BadConfig, BadData

VALUES = st.lists(st.floats(0.01, 1e5), min_size=1, max_size=200)


def test_a_line_comes_back_as_it_was_written_and_says_how_to_repeat_it(
    tmp_path: Path, make_run: Callable[..., Run]
) -> None:
    line, path = (
        sampled("latency", {"call": "Lanc\u0085me \u2028"}, "ms", [1.0, 2.0, 3.0]),
        tmp_path / "new" / "results.jsonl",
    )
    append(path, make_run(release="r1"), [line])
    (found,) = read(path)
    assert found.line == line
    assert found.run == make_run(release="r1")
    written = json.loads(path.read_text("utf-8"))
    assert written["schema"] == 1
    assert {"command", "date", "commit", "machine", "probe", "data"} <= set(written["run"])


def test_a_file_only_grows_and_a_torn_end_spoils_no_later_line(tmp_path: Path, make_run: Callable[..., Run]) -> None:
    path = tmp_path / "results.jsonl"
    append(path, make_run(1), [sampled("a", {}, "ms", [1.0])])
    before = path.read_bytes()
    path.write_bytes(before + b'{"schema": 1, "torn')
    append(path, make_run(2), [sampled("b", {}, "ms", [1.0])])
    assert path.read_bytes().startswith(before)
    with pytest.raises(BadData, match="line 2"):
        read(path)
    whole = [line for line in path.read_text("utf-8").splitlines() if "torn" not in line]
    path.write_text("\n".join(whole), "utf-8")
    assert [one.line.measured for one in read(path)] == ["a", "b"]


@pytest.mark.parametrize("text", ["", "not json\n", '{"schema": 99}\n', "[]\n", '{"schema": 1, "run": {}}\n'])
def test_what_is_no_result_is_refused_by_file_and_line(tmp_path: Path, text: str) -> None:
    path = tmp_path / "results.jsonl"
    path.write_text(text, "utf-8")
    with pytest.raises(BadData, match=r"results\.jsonl"):
        read(path)


def test_files_that_cannot_be_read_or_written_are_user_errors(tmp_path: Path, make_run: Callable[..., Run]) -> None:
    with pytest.raises(BadData, match="shortlist bench"):
        read(tmp_path / "missing.jsonl")
    (tmp_path / "folder").mkdir()
    with pytest.raises(BadConfig, match="--out"):
        append(tmp_path / "folder", make_run(), [])


@pytest.mark.parametrize(
    ("n", "names"),
    [(19, "median"), (20, "p50"), (99, "p50"), (100, "p50 p90"), (999, "p50 p90"), (1_000, "p50 p90 p99")],
)
def test_a_percentile_is_a_figure_only_with_ten_samples_beyond_it(n: int, names: str) -> None:
    assert set(percentiles(np.arange(1, n + 1))) == {"n", "mean", *names.split()}
    assert "p99.9" in percentiles(np.arange(10_000))


def test_samples_are_kept_up_to_a_number_and_the_histogram_of_all() -> None:
    few, many = sampled("a", {}, "ms", [1.0] * 50), sampled("a", {}, "ms", np.arange(1, 5_001))
    assert len(few.samples) == 50
    assert many.samples == [float(value) for value in range(1, 2_001)]
    assert many.summary["p50"] == 2_500.5
    assert sum(many.histogram.values()) == 5_000
    with pytest.raises(ValueError, match="no samples"):
        sampled("a", {}, "ms", [])


def test_the_newest_line_of_a_kind_counts(tmp_path: Path, make_run: Callable[..., Run]) -> None:
    path = tmp_path / "results.jsonl"
    for day, value in ((2, 20.0), (1, 10.0)):
        append(path, make_run(day), [Line(measured="a", labels={}, unit="ms", summary={"mean": value})])
    append(path, make_run(1, threads="1"), [Line(measured="a", labels={}, unit="ms", summary={"mean": 3.0})])
    assert [one.line.summary["mean"] for one in latest(read(path))] == [20.0, 3.0]


def test_a_newer_release_supersedes_an_older_one_and_a_quick_run_no_full_one(
    tmp_path: Path, make_run: Callable[..., Run]
) -> None:
    path = tmp_path / "results.jsonl"
    runs = [
        make_run(1, data="shop", release="r1"),
        make_run(2, **{"data": "shop", "release": "r2", "data fingerprint": "f", "tokens of 10 pairs": "mean 9"}),
        make_run(3, data="shop", release="r2", quick="yes"),
        replace(make_run(4, data="shop"), command="shortlist bench x --quick"),
        make_run(4, data="other shop", quick="yes"),
    ]
    for run in runs:
        append(path, run, [Line(measured="a", labels={}, unit="ms", summary={"mean": 1.0})])
    assert [one.run for one in latest(read(path))] == [runs[1], runs[4]]


def test_a_run_is_read_with_the_probe_that_it_ended_with(tmp_path: Path, make_run: Callable[..., Run]) -> None:
    path, lines = tmp_path / "results.jsonl", [sampled("a", {}, "ms", [1.0, 2.5])]
    record(make_run(1), lines, out=path, as_json=True, measure=lambda: Probe(99.0, 10.0))
    append(path, make_run(2), lines)
    assert [(one.line, one.run.ended) for one in read(path)] == [(lines[0], Probe(99.0, 10.0)), (lines[0], None)]
    assert '"samples":[1,2.5]' in path.read_text("utf-8")


def test_a_run_names_the_release_and_the_fingerprint_of_the_data(bundle: Path, shop_folder: Path) -> None:
    about = run_context({"texts": 5}, bundle=bundle, data=shop_folder, threads=None)
    assert about == {
        "bundle": bundle.name, "release": Bundle.open(bundle).current().id, "data": shop_folder.name,
        "data fingerprint": load(shop_folder).fingerprint, "texts": "5",
    }  # fmt: skip
    assert run_context(quick=True) == {"quick": "yes"}


def test_the_machine_and_the_commit_are_written_beside_the_figures() -> None:
    run = begin_run({"release": "r1"}, measure=lambda: Probe(1.0, 1.0))
    assert {"processor", "cores", "system", "python", "openvino"} <= set(run.machine)
    assert run.commit == machine()["commit"]
    assert run.command.startswith("shortlist bench")


def test_a_machine_that_was_not_quiet_is_told_on_stderr(
    make_run: Callable[..., Run], capsys: pytest.CaptureFixture[str]
) -> None:
    lines = [sampled("latency", {"call": "search"}, "ms", [1.0])]
    assert record(make_run(), lines, out=None, as_json=False, measure=lambda: Probe(99.0, 10.1)) == lines
    assert "speed changed" not in capsys.readouterr().err
    record(make_run(), lines, out=None, as_json=False, measure=lambda: Probe(60.0, 10.1))
    assert "speed changed: 100 GFLOP/s" in capsys.readouterr().err


def test_the_probe_counts_the_best_round() -> None:
    spans = iter([9.0, 2.0, 1.0, 9.0, 4.0, 0.5])  # of the product, then of the copy; the first of each warms up
    ticks = count()

    def clock() -> float:
        return 100.0 * (next(ticks) // 2) + (next(spans) if next(odd) else 0.0)

    odd = iter([False, True] * 6)
    found = probe(rounds=2, clock=clock)
    assert found == Probe(round(2 * 1024**3 / 1e9, 2), round(64 * 2**20 / 0.5 / 1e9, 2))


@given(VALUES)
def test_a_histogram_knows_every_value_to_its_bucket(values: list[float]) -> None:
    counts = bucket_counts(values)
    assert sum(counts.values()) == len(values)
    width = 2 ** (1 / BUCKETS_PER_DOUBLING) - 1
    np.testing.assert_allclose(values_in(counts), np.sort(values), rtol=1.05 * width)
