"""The commands, over a bundle of tiny random models: everything is measured, kept and shown, or ends in one line."""

from __future__ import annotations

import json
import warnings
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from benchmarks.cli.app import bench
from benchmarks.models.training_speed import loop_lines
from benchmarks.result_lines import Line, read
from benchmarks.vector_index import curves as index_curves
from indexing.ann.faiss_kinds import kinds_for
from retrieval.progress import LoopRecord
from serving.cli.command_group import loaded

ROOT = Path(__file__).parents[3]


def measured(out: Path, *arguments: str | Path) -> list[Line]:
    """The lines that a command keeps, which are those that it shows."""
    done = CliRunner().invoke(bench, [*map(str, arguments), "--device", "cpu", "--json", "--out", str(out)])
    assert done.exit_code == 0, done.output
    lines = [one.line for one in read(out)]
    shown = json.loads(done.stdout.splitlines()[-1])["lines"]
    assert [line["measured"] for line in shown] == [line.measured for line in lines]
    return lines


def test_many_shared_batches_and_deadlines_are_told_beside_what_they_are_held_against(
    bundle: Path, tmp_path: Path
) -> None:
    lines = measured(tmp_path / "lines.jsonl", "in-time", bundle, "--seconds", "0", "--every-gate")
    many, *shared = lines[:5]
    assert many.summary["ratio"] == pytest.approx(many.summary["many at once"] / many.summary["one by one"])
    assert many.summary["n"] == 120
    assert [line.labels["batches"] for line in shared] == ["shared", "own"] * 2
    rates = [line.summary["answered per second"] for line in shared]
    assert shared[0].summary["times the rate of own batches"] == pytest.approx(rates[0] / rates[1])
    deadlines = lines[5:]
    assert [
        (line.labels["call"], line.labels["deadline ms"], line.labels["share of capacity"]) for line in deadlines
    ] == [
        (call, deadline, share)
        for call in ("search", "recommend")
        for deadline in ("10", "25", "50")
        for share in ("0.5", "0.9")
    ]
    assert all(0 <= line.summary["share within 5 ms of it"] <= 1 for line in deadlines)
    assert measured(tmp_path / "one.jsonl", "in-time", bundle, "--seconds", "0", "--only", "many")[0].key == many.key


def test_latency_is_told_by_stage_under_load_and_by_setting(bundle: Path, tmp_path: Path) -> None:
    options = (
        "--quick",
        "--seconds",
        "0",
        "--sweep",
        "k=5,20",
        "--sweep",
        "depth=5",
        "--sweep",
        "filters=price>=1",
        "--call",
        "cart",
    )
    lines = measured(tmp_path / "out.jsonl", "latency", bundle, *options)
    kinds = {line.measured for line in lines}
    assert kinds == {"first answer of a process", "latency", "load", "highest rate", "sweep"}
    stages = {
        line.labels["stage"] for line in lines if line.measured == "latency" and line.labels["call"] == "recommend"
    }
    assert {"end to end", "read_user", "retrieve", "rank", "other"} <= stages
    swept = {(line.labels["setting"], line.labels["value"]) for line in lines if line.measured == "sweep"}
    assert swept == {
        ("k", "5"), ("k", "20"), ("depth", "5"), ("filters", "price>=1, first"), ("filters", "price>=1, cached")
    }  # fmt: skip
    assert {line.labels["call"] for line in lines if line.measured in ("load", "sweep")} == {"cart"}
    assert {line.labels["call"] for line in lines if line.measured == "first answer of a process"} == {
        "recommend", "search"
    }  # fmt: skip
    assert read(tmp_path / "out.jsonl")[0].run.data["queries"] == "past queries"


def test_a_bundle_is_measured_down_to_the_funnel(bundle: Path, shop_folder: Path, tmp_path: Path) -> None:
    lines = measured(tmp_path / "out.jsonl", "recall", bundle, "--data", shop_folder, "--quick")
    stages = {line.labels["stage"] for line in lines if line.measured == "quality"}
    assert {"retrieval", "reranked", "final", "popularity", "bm25"} <= stages
    figures = {line.labels["figure"] for line in lines if line.measured == "beyond accuracy"}
    assert {"coverage@10", "novelty@10", "diversity@10", "calibration@10", "brand_gap@10", "revenue@10"} <= figures
    funnels = {line.labels["task"]: line.summary for line in lines if line.measured == "funnel"}
    assert set(funnels) == {"seen_removed", "seen_kept", "search"}
    for counts in funnels.values():
        lost = {step: number or 0 for step, number in counts.items()}
        assert lost.pop("targets") == sum(lost.values())
    assert funnels["seen_kept"]["filtered"] == 0


def test_models_run_every_way_and_give_the_same(bundle: Path, shop_folder: Path, tmp_path: Path) -> None:
    reranked = measured(
        tmp_path / "a.jsonl", "rerank", bundle, "--rounds", "1", "--candidates", "5,12", "--threads", "1"
    )
    assert {(line.labels["way"], line.labels["pairs"]) for line in reranked} >= {
        ("sentence-transformers", "5"), ("openvino", "5"), ("torch", "12")
    }  # fmt: skip
    about = read(tmp_path / "a.jsonl")[0].run.data
    assert about["task"] == "recommend"
    assert {"tokens of 5 pairs", "tokens of 12 pairs", "tokens of requests"} <= set(about)
    difference = {tuple(line.labels.values()): line.summary["difference"] for line in reranked}
    for pairs in ("5", "12"):  # the shopper's titles are longer than a tiny model reads: theirs cuts them otherwise
        ours, other = (difference[way, pairs, "1"] for way in ("torch", "openvino"))
        assert ours == pytest.approx(other, abs=1e-4)
    encoded = measured(tmp_path / "b.jsonl", "encode", bundle, "--data", shop_folder, "--quick", "--rounds", "1")
    searched = [encoded.pop(0) for line in list(encoded) if line.measured == "encode, search"]
    assert {line.labels["queries"] for line in searched} == {"test", "all held out"}
    assert {"openvino", "bf16"} >= {line.labels["way"] for line in searched} >= {"openvino"}
    for line in searched:
        change, low, high = (line.summary[name] or 0.0 for name in ("change", "low", "high"))
        assert low <= change <= high
        assert abs(change) < 0.05 if line.labels["way"] == "bf16" else change == 0
    assert {line.labels["texts"] for line in encoded} == {"query", "title", "item"}
    batches = [line for line in encoded if line.measured == "encode, batches"]
    assert {line.labels["batch"] for line in batches} == {"1", "32"}
    encoded = [line for line in encoded if line.measured == "encode"]
    for name in ("cosine", "median cosine", "recall@100"):
        least = {"bf16": 0.9} if name == "recall@100" else {}  # near neighbours differ by less
        assert all((line.summary[name] or 0) > least.get(line.labels["way"], 0.999) for line in encoded)


def test_ways_of_reranking_are_told_by_what_they_cost_and_keep(bundle: Path, shop_folder: Path, tmp_path: Path) -> None:
    lines = measured(tmp_path / "out.jsonl", "frontier", bundle, "--data", shop_folder, "--quick", "--depth", "10")
    assert {(line.labels["task"], line.labels["way"]) for line in lines} == {
        (task, way) for task in ("recommend", "search") for way in ("full fp32", "full int8")
    }
    assert all({"lift", "low", "high", "kept", "median"} <= set(line.summary) for line in lines)
    assert all(len(line.samples) == 3 for line in lines)


def test_indexes_are_drawn_from_the_bundles_own_vectors(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    codes = [kind for kind in kinds_for(2_000, 16) if kind.factory == "SQ8"]  # so few items are not worth a kind
    monkeypatch.setattr(index_curves, "kinds_for", lambda n, dim: codes)
    lines = measured(tmp_path / "out.jsonl", "index", bundle, "--quick", "--seconds", "0.001")
    assert {"index", "index, built", "index, by filter"} <= {line.measured for line in lines}
    assert max(line.summary["recall"] or 0 for line in lines if line.measured == "index") == 1


@pytest.mark.slow
def test_every_part_of_a_training_has_a_rate(
    shop_folder: Path, tiny_encoder_folder: Path, tiny_bert_folder: Path, tmp_path: Path, one_thread: None
) -> None:
    models = ("--set", f"retrieval.text.model={tiny_encoder_folder}", "--set", f"ranking.model={tiny_bert_folder}")
    options = ("--quick", "--share", "1", "--set", "retrieval.history.longest=6", "--set", "retrieval.text.examples=64")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of tracing and of the trainers, whose own tests they are about
        lines = measured(tmp_path / "out.jsonl", "train", "--data", shop_folder, *options, *models)
    rates = {line.labels["part"]: line.summary for line in lines if line.measured == "train"}
    assert {"embedding items", "history", "ranker"} <= set(rates)
    for summary in rates.values():
        assert (summary["per second"] or 0) * (summary["seconds"] or 0) == pytest.approx(summary["done"])


def test_validation_figures_are_told_against_the_seconds_of_training() -> None:
    figures = [(1.0, {"loss": 3.0}), (2.0, {"recall": 0.1}), (4.0, {"loss": 2.0, "recall": 0.2})]
    rate, curve = loop_lines([LoopRecord("history", "positions", 80, 4.0, figures), LoopRecord("nothing", "items")])
    assert (rate.summary["per second"], rate.labels["part"]) == (20.0, "history")
    assert (curve.labels["figure"], curve.summary) == ("recall", {"2.0 s": 0.1, "4.0 s": 0.2})


def test_two_bundles_are_asked_in_turn(bundle: Path) -> None:
    done = CliRunner().invoke(
        bench, ["compare", str(bundle), str(bundle), "--seconds", "0", "--threshold", "1000", "--json"]
    )
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)["changes"]
    assert {one["labels"]["call"] for one in found} >= {"recommend", "search", "similar", "cart"}


@pytest.mark.parametrize(
    "arguments",
    [
        ("latency", "nowhere"),
        ("latency", "nowhere", "--sweep", "colour=red"),
        ("rerank", "nowhere"),
        ("encode", "nowhere"),
        ("index", "nowhere"),
        ("train", "--data", "nowhere"),
        ("compare", "nowhere", "nowhere"),
        ("tables", "nowhere"),
    ],
)
def test_bad_input_is_one_line(arguments: tuple[str, ...]) -> None:
    done = CliRunner().invoke(bench, list(arguments))
    assert done.exit_code == 2
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith("error: ")


def test_the_commands_are_those_of_the_entry_point() -> None:
    text = (ROOT / "pyproject.toml").read_text("utf-8")
    value = text.split('[project.entry-points."shortlist.commands"]\nbench = "', 1)[1].partition('"')[0]
    command = loaded(EntryPoint("bench", value, "shortlist.commands"))
    assert command.name == "bench"
    assert isinstance(command, typer.core.TyperGroup)
    wanted = {
        "latency",
        "tuning",
        "compare",
        "recall",
        "rerank",
        "frontier",
        "encode",
        "peers",
        "index",
        "train",
        "tables",
        "live",
        "in-time",
        "explain",
        "churn",
        "http",
    }
    assert set(command.commands) == wanted
