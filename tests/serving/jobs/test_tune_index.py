"""`shortlist index tune`: what it measures, says and draws of a bundle."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from indexing.ann.faiss_index import SearchParams
from indexing.bundle.bundle import Bundle
from indexing.tuning.benchmark_index import Point
from indexing.tuning.filter_crossover import Crossover
from indexing.tuning.tuner import Chosen
from serving.cli.app import app
from serving.cli.show_tuning import lines_of, page, rows_of
from serving.jobs.tune_index import Tuned


def shortlist(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, ["index", *map(str, arguments)], prog_name="shortlist")


def point(kind: str, rows: int, recall: float, milliseconds: float, ef: int = 64) -> Point:
    return Point(kind, SearchParams(ef_search=ef), rows, recall, recall, milliseconds, 12_000_000, 2.0)


@pytest.fixture
def tuned() -> Tuned:
    """A catalogue of 1,000 vectors, kinds tried over 100 of them."""
    curve = (
        point("Flat", 1_000, 1.0, 9.0),
        point("HNSW32", 100, 0.9, 0.5),
        point("HNSW32", 100, 0.9, 0.6, ef=128),
        point("HNSW32", 1_000, 0.96, 1.0, ef=128),
        point("HNSW32", 1_000, 0.99, 2.0, ef=256),
        point("SQ8", 1_000, 0.98, 4.0),
    )
    chosen = Chosen(curve[3], None, curve, "<HNSW32> is quick")
    crossover = Crossover(249, 2.0, ())
    return Tuned(
        release="r1", live="Flat", items=1_000, dim=8, asked="40 user vectors", k=100, target=0.95, memory=None,
        chosen=chosen, crossover=crossover,
    )  # fmt: skip


def test_points_are_compared_with_those_over_as_many_vectors(tuned: Tuned) -> None:
    marks = [row[-1] for row in rows_of(tuned)]
    assert marks == ["best", "best", "", "chosen", "best", ""]
    short = list(rows_of(tuned, all_of_them=False))
    assert [row[:2] for row in short] == [
        ("Flat", ""),
        ("HNSW32 over 100", "ef_search 64"),
        ("HNSW32", "ef_search 128"),
        ("HNSW32", "ef_search 256"),
        ("SQ8", ""),
    ]
    assert short[2][2:] == ("0.960", "1", "1,000", "12.0 MB", "2.0", "chosen")


def test_what_is_chosen_and_what_becomes_of_filters_is_said(tuned: Tuned) -> None:
    assert lines_of(tuned) == [
        "chosen: <HNSW32> is quick",
        "the live index is of kind Flat; `shortlist index build` would replace it",
        "filters that allow up to 249 items are answered by exact search over them, others inside the index",
    ]
    assert lines_of(replace(tuned, live="HNSW32", crossover=None)) == ["chosen: <HNSW32> is quick"]


def test_the_drawing_marks_what_is_chosen_and_keeps_samples_apart(tuned: Tuned) -> None:
    drawing = tuned.drawing()
    assert set(drawing.kinds) == {"Flat", "HNSW32 over 100", "HNSW32", "SQ8"}
    assert drawing.chosen is not None
    assert drawing.chosen[0] == "HNSW32, ef_search 128"
    written = page(tuned, drawing.svg())
    assert "chosen: &lt;HNSW32&gt; is quick" in written
    assert "chosen: HNSW32, ef_search 128" in written
    assert "http" not in written.replace("http://www.w3.org", "")


def test_a_bundle_is_measured_without_being_changed(bundle_path: Path, tmp_path: Path) -> None:
    before = sorted((path, path.stat().st_mtime_ns) for path in bundle_path.rglob("*"))
    done = shortlist("tune", bundle_path, "--json", "--out", tmp_path / "curve.html")
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert found["chosen"]["kind"] == found["live"] == "Flat"
    assert "quick enough" in found["why"]
    assert found["queries"].endswith("user vectors")
    assert "recall@100 against exact search" in (tmp_path / "curve.html").read_text("utf-8")
    assert sorted((path, path.stat().st_mtime_ns) for path in bundle_path.rglob("*")) == before


def test_requests_of_a_data_set_may_be_measured_with(bundle_path: Path, sample_folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "curve.svg"
    done = shortlist("tune", bundle_path, "--data", sample_folder, "--memory", "1GiB", "--out", out)
    assert done.exit_code == 0, done.output
    assert "chosen: exact search reads" in done.stdout
    assert out.read_text("utf-8").startswith("<svg style=")


def test_what_cannot_be_is_refused_in_a_line_before_anything_is_measured(own_bundle: Path, tmp_path: Path) -> None:
    wrong = shortlist("tune", own_bundle, "--out", tmp_path / "curve.txt")
    assert (wrong.exit_code, wrong.stderr.count("\n")) == (2, 1)
    assert "ends in .svg, .png, .html" in wrong.stderr
    assert shortlist("tune", own_bundle, "--memory", "much").exit_code == 2
    bundle = Bundle.open(own_bundle)
    bundle.publish(replace(bundle.current(), id="without", canaries=None))
    none = shortlist("tune", own_bundle)
    assert none.exit_code == 2
    assert "holds no requests to measure with; give a data set with --data DATA" in none.stderr
