"""Ablations: the same small data in every run, nothing run twice, and new items that no training saw."""

from __future__ import annotations

import json
import warnings
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
import typer
from click.testing import Result
from typer.testing import CliRunner

from benchmarks.ablation.run import Variant, ablate, markdown, read_lines
from benchmarks.ablation.subset import events_of, share_of, withhold
from retrieval.data.dataset import DataSet, load
from retrieval.errors import BadConfig
from retrieval.sample_shop.write import write_sample
from serving.evaluation.figures import as_object
from serving.settings import DataConfig
from serving.shop import Shop

NOW = datetime(2026, 6, 1, tzinfo=UTC)
WITHHELD = 0.2


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("data") / "sample-shop"
    return write_sample(path, items=60, shoppers=200, events=2_500, queries=40)


@pytest.fixture(scope="module")
def data(folder: Path) -> DataSet:
    return load(folder, now=NOW)


@pytest.fixture(scope="module")
def shop(folder: Path) -> Shop:
    return Shop.open(folder, DataConfig(), now=NOW)


def test_a_share_holds_whole_users_all_items_and_fewer_training_queries(data: DataSet, shop: Shop) -> None:
    half = share_of(data, 0.5, DataConfig())
    assert half.data.events is not None
    assert data.events is not None
    whole, kept = (np.diff(events.offsets) for events in (data.events, half.data.events))
    assert set(kept[kept > 0].tolist()) == set(whole[kept > 0].tolist())
    assert 0.3 < np.count_nonzero(kept) / np.count_nonzero(whole) < 0.7
    assert half.data.n_items == data.n_items
    assert half.judgements is not None
    assert shop.judgements is not None
    assert 0 < len(half.judgements.folds["train"]) < len(shop.judgements.folds["train"])
    assert np.array_equal(half.judgements.folds["test"], shop.judgements.folds["test"])


def test_a_smaller_share_is_part_of_a_larger_one_and_all_is_all(data: DataSet) -> None:
    users = []
    for share in (0.2, 0.6, 1.0):
        events = share_of(data, share, DataConfig()).data.events
        assert events is not None
        users.append(set(events.user.tolist()))
    assert users[0] < users[1] < users[2]
    assert data.events is not None
    assert users[2] == set(data.events.user.tolist())


def test_events_of_a_mask_keep_their_users(make_events) -> None:
    events = make_events([[(0, 0, 1), (1, 0, 1)], [(2, 0, 1)], [(3, 0, 1), (4, 1, 1)]])
    kept = events_of(events, np.array([False, True, False, True, True]))
    assert kept.item.tolist() == [1, 3, 4]
    assert kept.user.tolist() == [0, 2, 2]
    assert kept.offsets.tolist() == [0, 1, 1, 3]


def test_withheld_items_are_in_no_training_and_no_history_and_are_asked_for_apart(shop: Shop) -> None:
    without, apart = withhold(shop, WITHHELD)
    before, after = shop.data.events, without.data.events
    assert before is not None
    assert after is not None
    assert shop.events is not None
    assert without.events is not None
    gone = set(before.item.tolist()) - set(after.item.tolist())
    assert 0 < len(gone) < shop.data.n_items / 2
    assert len(without.events.train) == len(without.events.train_target) == len(after)
    for name, fold in shop.events.folds.items():
        known, new = without.events.folds[name], apart[name]
        assert gone.isdisjoint(known.target_item.tolist())
        assert set(new.target_item.tolist()) <= gone
        assert len(known.target_item) + len(new.target_item) == len(fold.target_item)
        assert (np.diff(known.target_ptr) > 0).all()
    judged = without.data.judgements
    assert judged is not None
    assert shop.judgements is not None
    trains = np.isin(judged.query, shop.judgements.folds["train"])
    assert gone.isdisjoint(judged.item[trains].tolist())
    assert not gone.isdisjoint(judged.item[~trains].tolist())
    request, moved = shop.events.folds["test"], without.events.folds["test"]
    at = int(np.flatnonzero((request.user == moved.user[0]) & (request.time == moved.time[0]))[0])
    history = before.item[before.offsets[request.user[at]] : request.end[at]]
    assert after.item[after.offsets[moved.user[0]] : moved.end[0]].tolist() == [
        item for item in history.tolist() if item not in gone
    ]


@pytest.mark.parametrize("text", ["no colon", ": retrieval.seed=2"])
def test_a_run_without_a_name_is_refused(text: str) -> None:
    with pytest.raises(BadConfig, match="write it as"):
        Variant.parsed(text, [], 1)


def test_an_unknown_setting_is_named_before_anything_is_trained() -> None:
    with pytest.raises(BadConfig, match=r"retrieval\.history\.depth is not known"):
        Variant.parsed("deep: retrieval.history.depth=2", [], 1)


def test_the_seed_is_the_runs_own() -> None:
    assert Variant.parsed("default:", [], 5).config.retrieval.seed == 5


def line_of(name: str, seed: int, recall: float | None, seconds: float = 10.0) -> dict[str, object]:
    figures = {"n": 1200, "recall@10": recall, "ndcg@10": 0.05}
    return {"name": name, "seed": seed, "seconds": seconds, "figures": {"recommend": {"test": figures}}}


def test_the_table_has_means_over_seeds_and_differences_to_the_first_run() -> None:
    lines = [line_of("default", 1, 0.1), line_of("default", 2, 0.2), line_of("deep", 1, 0.25, 30.0)]
    assert markdown(lines) == (
        "recommend, test, n = 1,200\n\n"
        "| run | seeds | R@10 | nDCG@10 | seconds |\n"
        "| --- | --- | --- | --- | --- |\n"
        "| default | 2 | .1500 | .0500 | 10 |\n"
        "| deep | 1 | .2500 (+.1000) | .0500 (+.0000) | 30 |"
    )
    assert "| none | 1 | – |" in markdown([line_of("none", 1, None)])


def test_a_torn_line_is_named(tmp_path: Path) -> None:
    assert read_lines(tmp_path / "none.jsonl") == []
    (tmp_path / "runs.jsonl").write_text('{"name": "default"}\n{"name": "de', "utf-8")
    with pytest.raises(BadConfig, match=r"runs\.jsonl: a line is not JSON"):
        read_lines(tmp_path / "runs.jsonl")


def ran(*arguments: object) -> Result:
    app = typer.Typer()
    app.command()(ablate)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of tracing and of the trainers, whose own tests they are about
        return CliRunner().invoke(app, [str(part) for part in arguments])


@pytest.fixture(scope="module")
def asked(folder: Path, tiny_encoder_folder: Path) -> list[object]:
    """Arguments of a quick ablation."""
    quick = (f"text.model={tiny_encoder_folder}", "text.examples=0", "history.epochs=1", "history.longest=6")
    settings = [part for setting in quick for part in ("--set", f"retrieval.{setting}")]
    return ["--data", folder, *settings, "--withhold", WITHHELD, "--device", "cpu"]


def test_runs_are_written_line_by_line_and_never_made_twice(
    asked: list[object], tmp_path: Path, one_thread: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "runs.jsonl"
    first = ran(*asked, "--out", out, "--run", "default:", "--run", "narrow: retrieval.history.width=32")
    assert first.exit_code == 0, first.output
    lines = read_lines(out)
    assert [(line["name"], line["seed"]) for line in lines] == [("default", 1), ("narrow", 1)]
    figures = as_object(lines[0]["figures"])
    assert {task: list(as_object(folds)) for task, folds in figures.items()} == {
        "recommend": ["held out", "test"],
        "new_items": ["held out", "test"],
        "search": ["held out", "test"],
    }
    new = as_object(as_object(figures["new_items"])["test"])
    assert {"n", "recall@50", "untuned_recall@50"} <= set(new)
    assert json.loads(json.dumps(lines, allow_nan=False)) == lines
    assert {"commit", "seconds", "settings", "share", "withhold"} <= set(lines[0])

    monkeypatch.setattr("benchmarks.ablation.run.train_towers", None)  # a training would fail
    again = ran(*asked, "--out", out, "--run", "default:", "--run", "narrow: retrieval.history.width=32")
    assert again.exit_code == 0, again.output
    assert again.stdout == first.stdout
    assert read_lines(out) == lines
    other = ran(*asked, "--out", out, "--run", "default:", "--seeds", "2")
    assert other.exit_code != 0


def test_valid_leaves_the_test_fold_unread(asked: list[object], tmp_path: Path, one_thread: None) -> None:
    out = tmp_path / "valid.jsonl"
    done = ran(*asked, "--out", out, "--run", "default:", "--valid", "--share", 0.7)
    assert done.exit_code == 0, done.output
    figures = as_object(read_lines(out)[0]["figures"])
    assert all("test" not in as_object(folds) for folds in figures.values())


def test_bad_input_is_one_line(tmp_path: Path) -> None:
    done = ran("--data", tmp_path / "nowhere", "--out", tmp_path / "runs.jsonl", "--run", "default:")
    assert done.exit_code == 2
    assert "no such folder" in done.stderr
    assert not (tmp_path / "runs.jsonl").exists()
