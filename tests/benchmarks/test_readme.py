"""README's tables are those of the committed results."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from benchmarks.cli import bench
from benchmarks.readme import RESULTS, with_tables
from benchmarks.results import Line, Run, append, read, sampled
from retrieval.errors import BadData

README = Path(__file__).parent.parent.parent / "README.md"
TEXT = "before\n<!-- bench latency shop -->\nold\n<!-- /bench -->\nafter\n"


def test_readme_says_what_the_committed_results_say() -> None:
    text = README.read_text("utf-8")
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


@pytest.mark.parametrize("marker", ["colours shop", "latency nowhere", "peers shop"])
def test_a_table_that_cannot_be_made_is_an_error(tmp_path: Path, make_run: Callable[..., Run], marker: str) -> None:
    append(tmp_path / "shop.jsonl", make_run(), [sampled("latency", {"call": "a", "stage": "end to end"}, "ms", [1.0])])
    with pytest.raises(BadData):
        with_tables(TEXT.replace("latency shop", marker), tmp_path)


def test_the_command_needs_a_text(tmp_path: Path) -> None:
    done = CliRunner().invoke(bench, ["readme", str(tmp_path / "none.md")])
    assert (done.exit_code, done.stderr.count("\n")) == (2, 1)
