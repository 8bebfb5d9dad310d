"""The page: self-contained, safe with any text, and first of all honest about who wins."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from benchmarks.cli.app import bench
from benchmarks.reporting import speed as report_speed
from benchmarks.reporting.blocks import newest
from benchmarks.reporting.quality import lead
from benchmarks.reporting.report import render_page
from benchmarks.reporting.sections import sections
from benchmarks.result_lines import Line, Recorded, Run, append, sampled

EVIL = '<script>alert("x")</script> {{ 7 * 7 }}'


def quality(stage: str, metric: str, mean: float) -> Line:
    labels = {"task": "seen_kept", "stage": stage, "metric": metric}
    summary = {"mean": mean, "low": mean - 0.01, "high": mean + 0.01, "n": 500.0}
    return Line(measured="quality", labels=labels, unit="share", summary=summary)


def new_kinds() -> list[Line]:
    """Lines of slices, training, growth and what reranking keeps."""
    sliced = {"ndcg@10": 0.2, "ndcg@10 low": 0.1, "ndcg@10 high": 0.3, "n": 50.0}
    kept = {"n": 30.0, "p50": 40.0, "lift": 0.03, "low": 0.01, "high": 0.05, "kept": 1.0}
    made = [
        ("slice", {"task": "seen_kept", "slice": "tail", "stage": "fused"}, sliced),
        ("beyond accuracy", {"task": "seen_kept", "stage": "als", "figure": "coverage@10"}, {"value": 0.77}),
        ("frontier", {"task": "search", "way": "full fp32"}, kept),
        ("train", {"part": "towers", "counted": "examples"}, {"per second": 9.0}),
        ("train, validation", {"part": "towers", "figure": "recall@20"}, {"1.0 s": 0.1, "2.0 s": 0.2}),
        ("index, growth", {"kind": "HNSW32", "items": "10000"}, {"MB": 3.0, "per second": 900.0}),
        ("index, growth", {"kind": "HNSW32", "items": "100000"}, {"MB": 30.0, "per second": 500.0}),
        ("tuned index", {"kind": "HNSW32", "effort": "ef 16"}, {"p50 ms": 0.1}),
    ]
    return [Line(measured=kind, labels=labels, unit="figure", summary=summary) for kind, labels, summary in made]


def every_kind() -> list[Line]:
    """A line or two of everything that a page can show."""
    rng = np.random.default_rng(0)
    lines = [quality(stage, f"recall@{k}", mean * k / 100) for stage, mean in (("fused", 0.5), ("als", 0.4)) for k in (5, 10, 100)]  # fmt: skip  # noqa: E501
    lines += [quality("fused", "ndcg@10", 0.3), quality("als", "ndcg@10", 0.35)]
    for stage in ("end to end", "search", "rerank", "other"):
        lines.append(sampled("latency", {"call": "recommend", "stage": stage}, "ms", 5 + rng.random(50)))
    for rate in (10.0, 20.0):
        about = {"call": "recommend", "load": "open", "share": f"{rate / 40:g}", "threads": "2"}
        summary = {"n": 100.0, "mean": 5.0, "p50": 5.0, "p90": rate, "answered per second": rate}
        lines.append(Line(measured="load", labels=about, unit="ms", summary=summary))
    labels = {"call": "recommend", "bound ms": "50", "percentile": "p99"}
    lines.append(Line(measured="highest rate", labels=labels, unit="per second", summary={"rate": 31.0}))
    lines.append(
        sampled("sweep", {"setting": "k", "value": "10", "call": "recommend", "stage": "end to end"}, "ms", [5.0])
    )
    lines.append(sampled("first answer of a process", {}, "s", [2.0]))
    for way in ("sentence-transformers", "openvino"):
        made = sampled("rerank", {"way": way, "pairs": "10", "cores": "1"}, "ms", [9.0])
        lines.append(Line(**{**vars(made), "summary": {**made.summary, "times faster": 1.4}}))
    cost = {"build s": None, "MB": 3.0, "p50 ms": 2.0, "per second": 9.0}
    lines.append(Line(measured="peer", labels={"task": "recommend", "peer": EVIL, "chosen": "K 20"}, unit="figure", summary=cost))  # fmt: skip  # noqa: E501
    lines.append(Line(measured="funnel", labels={"task": "seen_kept", "k": "10"}, unit="figure", summary={"targets": 9.0, "answered": 4.0, "retrieval": 5.0}))  # fmt: skip  # noqa: E501
    for kind, recall in (("HNSW32", 0.9), ("Flat", 1.0)):
        labels = {"kind": kind, "setting": "ef 16", "asked": "one at a time"}
        lines.append(
            Line(measured="index", labels=labels, unit="figure", summary={"recall": recall, "per second": 100 / recall})
        )
    lines += new_kinds()
    return lines


@pytest.fixture
def recorded(make_run: Callable[..., Run]) -> list[Recorded]:
    run = make_run(data="shop")
    return [Recorded(run, line) for line in every_kind()]


def test_two_bundles_or_machines_never_share_a_chart_or_an_unnamed_row(make_run: Callable[..., Run]) -> None:
    on_gpu = make_run(data="shop")
    runs = [make_run(data="shop"), make_run(data="other"), replace(on_gpu, machine={**on_gpu.machine, "gpu": "H1"})]
    sections = report_speed.sections([Recorded(run, line) for run in runs for line in every_kind()])
    for section in filter(None, sections):
        if section.title in ("Indexes", "Latency", "Under load", "Models", "What reranking keeps", "Training"):
            places = [chart.title.partition(":")[0] for chart in section.charts]
            assert set(places) == {"shop", "other", "shop, H1"}, section.title
        for table in section.tables:
            assert table.head[0] == "of", (section.title, table.title)


@pytest.mark.parametrize(("lift", "told"), [(0.03, "0.77"), (-0.03, "–")])
def test_a_share_of_a_lift_that_is_none_is_not_told(make_run: Callable[..., Run], lift: float, told: str) -> None:
    summary = {"n": 9.0, "p50": 4.0, "lift": lift, "low": lift - 0.01, "high": lift + 0.01, "kept": 0.77}
    line = Line(measured="frontier", labels={"task": "search", "way": "full"}, unit="ms", summary=summary)
    (section,) = filter(None, report_speed.sections([Recorded(make_run(data="shop"), line)]))
    table = section.tables[0]
    assert table.rows[0].cells[list(table.head).index("kept")] == told


def test_the_page_loads_nothing_and_escapes_what_it_is_given(recorded: list[Recorded]) -> None:
    page = render_page(recorded, title=EVIL)
    assert "<script" not in page
    assert "49" not in re.findall(r"<h1>(.*?)</h1>", page)[0]
    assert not re.findall(r"""(?:src|href)\s*=\s*["'](?!#)""", page)
    assert "http" not in re.sub(r'xmlns(:\w+)?="[^"]*"', "", page)


def test_everything_measured_is_on_the_page_with_its_command(recorded: list[Recorded]) -> None:
    page = render_page(recorded, title="Shop")
    for heading in (
        "Latency",
        "Under load",
        "Settings",
        "Models",
        "Peers",
        "Indexes",
        "Where targets are lost",
        "Slices",
        "Beyond accuracy",
        "Training",
        "What reranking keeps",
    ):
        assert f"<h2>{heading}</h2>" in page
    assert page.count("<svg") == 14
    assert "shortlist bench x" in page
    assert "100 GFLOP/s" in page


def test_a_page_of_one_measurement_has_no_other_section(recorded: list[Recorded]) -> None:
    alone = [one for one in recorded if one.line.measured == "latency"]
    assert [section.title for section in sections(alone)] == ["Latency"]
    assert render_page(alone, title="One").count("<svg") == 2


def test_where_a_peer_wins_the_page_says_so_first(recorded: list[Recorded]) -> None:
    first = lead(recorded)[0]
    assert first.loses
    assert "nDCG@10 .3500 of ALS against .3000 of ours" in first.text


def test_what_was_run_for_a_sample_alone_is_told_with_its_number_and_wins_nothing(
    recorded: list[Recorded], make_run: Callable[..., Run]
) -> None:
    lucky = quality("final", "ndcg@10", 0.9)
    few = Recorded(make_run(data="shop"), Line(**{**vars(lucky), "summary": {**lucky.summary, "n": 25.0}}))
    assert lead([*recorded, few]) == lead(recorded)
    assert "<td>25</td>" in render_page([*recorded, few], title="Shop")


def test_a_peer_that_costs_less_is_said_first(make_run: Callable[..., Run]) -> None:
    costs = {"shortlist, search": 9.0, "bm25s": 2.0}
    lines = [
        Line(measured="peer", labels={"task": "search", "peer": peer}, unit="figure", summary={"p50 ms": cost})
        for peer, cost in costs.items()
    ]
    first = lead([Recorded(make_run(data="shop"), line) for line in lines])[0]
    assert first.loses
    assert "2 median ms of bm25s against 9 of ours" in first.text


def test_what_ours_wins_follows(recorded: list[Recorded]) -> None:
    others = lead(recorded)[1:]
    assert [one.loses for one in others] == [False]


def test_earlier_results_are_compared(recorded: list[Recorded], make_run: Callable[..., Run]) -> None:
    slower = sampled("latency", {"call": "recommend", "stage": "search"}, "ms", 9 + np.random.default_rng(1).random(50))
    page = render_page(recorded, title="Shop", before=[Recorded(make_run(), slower)])
    assert "Before and after" in page
    assert "better" in page


def test_what_changed_without_a_test_is_no_alarm_and_from_nothing_has_no_place_on_the_chart(
    recorded: list[Recorded], make_run: Callable[..., Run]
) -> None:
    cost = {"build s": None, "MB": 6.0, "p50 ms": 0.0, "per second": 9.0}
    labels = {"task": "recommend", "peer": EVIL, "chosen": "K 20"}
    before = [Recorded(make_run(data="shop"), Line(measured="peer", labels=labels, unit="figure", summary=cost))]
    (made,) = [one for one in sections(recorded, before) if one.title == "Before and after"]
    (table,) = made.tables
    assert {row.cells[-1] for row in table.rows} == {"not tested"}
    assert not any(row.ours for row in table.rows)
    assert "Before and after" in render_page(recorded, title="Shop", before=before)


def test_few_samples_have_a_median_and_a_place_on_the_page(make_run: Callable[..., Run]) -> None:
    few = [3.0, 4.0, 5.0, 6.0]
    one = sampled("latency", {"call": "search", "stage": "end to end"}, "ms", few)
    made = sampled("load", {"call": "search", "load": "open", "share": "0.25"}, "ms", few)
    load = Line(**{**vars(made), "summary": {**made.summary, "answered per second": 2.0}})
    page = render_page([Recorded(make_run(), line) for line in (one, load)], title="Shop")
    assert "4.5 ms" in page
    assert "Under load" in page


def test_a_run_on_a_gpu_stands_beside_that_on_a_cpu(make_run: Callable[..., Run]) -> None:
    line = sampled("encode", {"way": "bf16", "texts": "title"}, "per second", [9.0])
    runs = make_run(), replace(make_run(2), machine={"cores": "2", "gpu": "one"})
    assert len(newest([Recorded(run, line) for run in (*runs, make_run(3))])) == 2


def test_the_command_writes_one_page_of_several_files(
    tmp_path: Path, recorded: list[Recorded], make_run: Callable[..., Run]
) -> None:
    for name, part in (("a", recorded[:8]), ("b", recorded[8:])):
        append(tmp_path / name, make_run(data="shop"), [one.line for one in part])
    out = tmp_path / "page.html"
    done = CliRunner().invoke(bench, ["report", str(tmp_path / "a"), str(tmp_path / "b"), "--out", str(out)])
    assert done.exit_code == 0, done.output
    assert "Latency" in out.read_text("utf-8")
    missing = CliRunner().invoke(bench, ["report", str(tmp_path / "c"), "--out", str(out)])
    assert (missing.exit_code, missing.stderr.count("\n")) == (2, 1)
