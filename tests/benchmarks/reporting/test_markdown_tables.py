"""The tables of README and docs/measured.md are those of the committed results."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from benchmarks.cli.app import bench
from benchmarks.reporting.markdown_tables import RESULTS, with_tables
from benchmarks.result_lines import Line, Run, append, read, sampled
from retrieval.errors import BadData

ROOT = Path(__file__).parents[3]
TEXT = "before\n<!-- bench latency shop -->\nold\n<!-- /bench -->\nafter\n"


@pytest.mark.parametrize("name", ["README.md", "docs/measured.md"])
def test_documents_say_what_the_committed_results_say(name: str) -> None:
    text = (ROOT / name).read_text("utf-8")
    assert "<!-- bench" in text
    assert with_tables(text) == text


def test_every_committed_result_can_be_read_and_was_taken_from_a_committed_state() -> None:
    files = sorted(RESULTS.glob("*.jsonl"))
    assert files
    for path in files:
        assert not any(one.run.commit.endswith("-dirty") for one in read(path)), path


def test_a_table_is_made_of_the_newest_run_and_only_between_its_markers(
    tmp_path: Path, make_run: Callable[..., Run]
) -> None:
    for day, ms in ((1, 77.0), (2, 4.0)):
        lines = [
            sampled("latency", {"call": "search", "stage": stage}, "ms", [ms] * 30)
            for stage in ("end to end", "rerank")
        ]
        append(tmp_path / "shop.jsonl", make_run(day), lines)
    found = with_tables(TEXT, tmp_path)
    assert found.startswith("before\n<!-- bench latency shop -->\n| call, ms")
    assert found.endswith("<!-- /bench -->\nafter\n")
    assert "| search | 30 | 4 | – | – | – | rerank 4 |" in found
    assert "77" not in found
    assert "old" not in found
    assert with_tables(found, tmp_path) == found


def test_quality_is_told_best_first_ours_in_bold_and_no_mere_sample(
    tmp_path: Path, make_run: Callable[..., Run]
) -> None:
    lines = []
    found = {"popularity": 0.1, "fused": 0.3, "als": 0.2, "bpr": 0.2, "final": 0.9}
    for stage, mean in found.items():
        n = 5.0 if stage == "final" else 90.0
        labels = {"task": "seen_kept", "stage": stage, "metric": "ndcg@10"}
        lines.append(Line(measured="quality", labels=labels, unit="share", summary={"mean": mean, "n": n}))
    append(tmp_path / "shop.jsonl", make_run(), lines)
    rows = with_tables(TEXT.replace("latency", "quality"), tmp_path).splitlines()
    told = [row.split("|")[2].strip() for row in rows if row.startswith("| seen")]
    assert told == ["**fused**", "ALS, BPR", "popularity"]


def test_ways_are_told_as_measured_with_the_gpu_that_they_ran_on(tmp_path: Path, make_run: Callable[..., Run]) -> None:
    line = sampled("rerank", {"way": "bf16", "pairs": "100", "cores": "2"}, "ms", [3.0])
    run = make_run()
    on_gpu = replace(run, machine={**run.machine, "gpu": "some GPU"})
    append(tmp_path / "shop.jsonl", on_gpu, [replace(line, summary={**line.summary, "times faster": 14.25})])
    told = with_tables(TEXT.replace("latency", "rerank"), tmp_path).splitlines()
    assert "| 100 | 2 | bf16 | 3 | 14.2 |" in told
    assert "some GPU, " in told[-3]


def test_every_run_that_a_row_comes_from_is_named_below(tmp_path: Path, make_run: Callable[..., Run]) -> None:
    for day, way in ((1, "fp32"), (2, "bf16"), (3, "bf16")):
        line = sampled("rerank", {"way": way, "pairs": "100", "cores": "2"}, "ms", [3.0])
        append(tmp_path / "shop.jsonl", replace(make_run(day), command=f"shortlist bench rerank {day}"), [line])
    told = with_tables(TEXT.replace("latency", "rerank"), tmp_path)
    assert re.findall("`shortlist bench rerank (.)`", told) == ["1", "3"]


def test_peers_are_told_by_what_they_find_and_cost(tmp_path: Path, make_run: Callable[..., Run]) -> None:
    lines = []
    for stage, mean in {"als": 0.2, "fused": 0.3}.items():
        labels = {"task": "seen_kept", "stage": stage, "metric": "ndcg@10"}
        lines.append(Line(measured="quality", labels=labels, unit="share", summary={"mean": mean, "n": 9.0}))
    for peer, ms in {"shortlist, recommend": 4.0, "als": 2.0}.items():
        labels, summary = {"task": "recommend", "peer": peer, "chosen": "a grid"}, {"MB": 3.0, "p50 ms": ms}
        lines.append(Line(measured="peer", labels=labels, unit="figure", summary=summary))
    append(tmp_path / "shop.jsonl", make_run(), lines)
    rows = with_tables(TEXT.replace("latency", "peers"), tmp_path).splitlines()[4:7]
    assert rows == [
        "| seen kept | **fused** | – | – | – | .3000 | – | – | – | – |",
        "| seen kept | ALS | a grid | – | – | .2000 | – | 3 | 2 | – |",
        "| recommend | shortlist, recommend | a grid | – | – | – | – | 3 | 4 | – |",
    ]


def test_slices_are_told_by_name_with_the_best_of_all_else(tmp_path: Path, make_run: Callable[..., Run]) -> None:
    lines = []
    for part in ("new_items", "head"):
        for stage, mean in {"bm25": 0.1, "popularity": 0.2, "fused": 0.3}.items():
            labels, summary = {"task": "seen_kept", "slice": part, "stage": stage}, {"ndcg@10": mean, "n": 20.0}
            lines.append(Line(measured="slice", labels=labels, unit="share", summary=summary))
    append(tmp_path / "shop.jsonl", make_run(), lines)
    rows = with_tables(TEXT.replace("latency shop", "slices shop new_items"), tmp_path).splitlines()
    assert [row.split(" | ")[2:4] for row in rows if row.startswith("| seen")] == [
        ["20", "**fused**"],
        ["20", "popularity"],
    ]
    assert "popularity" in with_tables(TEXT.replace("latency", "slices"), tmp_path).split("head", 1)[1]
    with pytest.raises(BadData, match="no results of slice of cold"):
        with_tables(TEXT.replace("latency shop", "slices shop cold"), tmp_path)


def test_load_is_told_by_arrivals_and_callers(tmp_path: Path, make_run: Callable[..., Run]) -> None:
    about = [{"load": "open", "share": "0.5"}, {"load": "closed", "callers": "2"}]
    for labels in about:
        line = sampled("load", {"call": "search", **labels}, "ms", [2.0] * 30)
        append(
            tmp_path / "shop.jsonl", make_run(), [replace(line, summary={**line.summary, "answered per second": 9.0})]
        )
    rows = with_tables(TEXT.replace("latency", "load"), tmp_path).splitlines()
    assert "| closed loop, callers: 2 | – | 9 | 2 | – | – | – |" in rows
    assert "| open loop | – | 9 | 2 | – | – | – |" in rows


def test_of_each_index_the_quickest_setting_that_finds_enough_is_told(
    tmp_path: Path, make_run: Callable[..., Run]
) -> None:
    found = {"Flat": [("all", 1.0, 20.0)], "HNSW": [("ef 8", 0.9, 90.0), ("ef 32", 0.96, 60.0), ("ef 64", 0.99, 40.0)]}
    found["PQ"] = [("k 1", 0.5, 80.0), ("k 2", 0.7, 70.0)]  # never enough: the most exact one
    lines = [
        Line(
            measured="index",
            labels={"kind": kind, "setting": setting, "asked": asked},
            unit="figure",
            summary={"recall": recall, "per second": rate * times},
        )
        for kind, settings in found.items()
        for setting, recall, rate in settings
        for asked, times in (("one at a time", 1), ("9 at once", 5))
    ]
    built = {"build s": 2.5, "MB": 7.0}
    lines.append(Line(measured="index, built", labels={"kind": "HNSW"}, unit="figure", summary=built))
    append(tmp_path / "shop.jsonl", make_run(), lines)
    rows = with_tables(TEXT.replace("latency", "index"), tmp_path).splitlines()
    assert rows[2] == "| kind | setting | recall@10 | a second, one at a time | a second, 9 at once | build s | MB |"
    assert rows[4:7] == [
        "| Flat | all | 1 | 20 | 100 | – | – |",
        "| HNSW | ef 32 | 0.96 | 60 | 300 | 2.5 | 7 |",
        "| PQ | k 2 | 0.7 | 70 | 350 | – | – |",
    ]


def test_of_ways_of_reranking_those_that_nothing_as_quick_equals_are_told_beside_the_first(
    tmp_path: Path, make_run: Callable[..., Run]
) -> None:
    ways = {"full": (90.0, 0.02), "slow": (40.0, 0.01), "quick": (20.0, 0.01), "quickest": (5.0, -0.01)}
    ways["best"] = (50.0, 0.03)
    lines = []
    for way, (ms, lift) in ways.items():
        line = sampled("frontier", {"task": "search", "way": way}, "ms", [ms] * 30)
        lines.append(replace(line, summary={**line.summary, "lift": lift}))
    append(tmp_path / "shop.jsonl", make_run(), lines)
    rows = with_tables(TEXT.replace("latency", "frontier"), tmp_path).splitlines()
    assert [row.split(" | ")[1] for row in rows if row.startswith("| search")] == ["full", "best", "quick", "quickest"]


@pytest.mark.parametrize("marker", ["colours shop", "latency nowhere", "peers shop"])
def test_a_table_that_cannot_be_made_is_an_error(tmp_path: Path, make_run: Callable[..., Run], marker: str) -> None:
    append(tmp_path / "shop.jsonl", make_run(), [sampled("latency", {"call": "a", "stage": "end to end"}, "ms", [1.0])])
    with pytest.raises(BadData):
        with_tables(TEXT.replace("latency shop", marker), tmp_path)


def test_the_command_needs_a_text(tmp_path: Path) -> None:
    done = CliRunner().invoke(bench, ["tables", str(tmp_path / "none.md")])
    assert (done.exit_code, done.stderr.count("\n")) == (2, 1)
