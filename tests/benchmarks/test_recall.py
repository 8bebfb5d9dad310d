"""Quality: lines of every stage and slice, and a funnel in which every missed target is lost once."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from benchmarks.cli import bench
from benchmarks.funnel import STEPS, Funnel
from benchmarks.results import read
from benchmarks.tasks import groups_of, item_slices
from retrieval.metrics import recall_at
from retrieval.sample import write_sample
from retrieval.topk import CSR, Hits


def lists(rows: list[list[int]]) -> Hits:
    """Lists of one length, best first."""
    table = np.array(rows, np.int64)
    return Hits(table, np.tile(-np.arange(table.shape[1], dtype=np.float32), (len(table), 1)))


def test_each_step_of_the_funnel_is_blamed_for_what_it_lost() -> None:
    funnel = Funnel(
        targets=CSR.from_lists([[0, 1, 2, 3, 4, 5, 99]]), n_items=20, removed=CSR.from_lists([[1]]),
        exact=lists([[0, 7, 8, 3, 4, 9]]), given=lists([[0, 5, 8, 4, 10, 11]]), answered=lists([[0, 8, 5, 4, 10, 11]]),
        k=2,
    )  # fmt: skip
    assert funnel.counts() == {
        "targets": 7, "answered": 1, "unknown": 1, "filtered": 1, "retrieval": 1, "approximate index": 1,
        "reranked down": 1, "capped": 1,
    }  # fmt: skip


@given(st.integers(0, 10_000))
def test_every_target_is_answered_or_lost_at_exactly_one_step(seed: int) -> None:
    rng = np.random.default_rng(seed)
    draw = [[rng.permutation(10)[:6].tolist() for _ in range(4)] for _ in range(2)]
    given_lists = lists(draw[0])
    answered = lists([[*rng.permutation(row[:4]).tolist(), *row[4:]] for row in draw[0]])
    targets = CSR.from_lists([rng.permutation(12)[: rng.integers(0, 5)] for _ in range(4)])
    removed = CSR.from_lists([[int(item)] for item in rng.integers(0, 10, 4)])
    kept = given_lists.rows.tolist()
    funnel = Funnel(
        targets=targets, n_items=10, removed=removed, exact=lists(draw[1]), given=given_lists, answered=answered, k=3
    )
    found = funnel.counts()
    assert found["targets"] == found["answered"] + sum(found[step] for step in STEPS) == len(targets.rows)
    wanted = recall_at(answered, targets, 3) * np.diff(targets.indptr)
    assert found["answered"] == pytest.approx(np.nansum(wanted))
    assert found["unknown"] == np.count_nonzero(targets.rows >= 10)
    assert kept == funnel.given.rows.tolist()


def test_price_bands_and_head_and_tail_divide_the_targets() -> None:
    items = pa.table({"item_id": list("abcdefgh"), "price": [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, None, 8.0]})
    targets = CSR.from_lists([[0, 3, 7], [6, 1]])
    found = item_slices(items, np.array([9, 1, 1, 9, 1, 1, 1, 1]), targets)
    assert found["head"].tolist() == [True, True, False, False, False]
    assert (found["head"] ^ found["tail"]).all()
    bands = np.stack([mask for name, mask in found.items() if name.startswith("price")])
    assert bands.sum(axis=0).tolist() == [1, 1, 1, 0, 1]
    assert not any(name.startswith("price") for name in item_slices(items.drop(["price"]), np.ones(8), targets))


def test_an_item_belongs_to_the_first_of_its_categories() -> None:
    items = pa.table({"category": [["Home", "Mugs"], None, [], ["Mugs"], ["Home"]], "brand": [None] * 5})
    found = groups_of(items, "category")
    assert found is not None
    assert found[0] == found[4] != found[3]
    assert found[1] == found[2] == -1
    assert groups_of(items.set_column(1, "brand", pa.array([None] * 5, pa.string())), "brand") is None
    assert groups_of(items, "seller") is None


def test_baselines_alone_are_measured_without_a_bundle(tmp_path: Path) -> None:
    data = write_sample(tmp_path / "sample-shop", items=60, shoppers=80, events=1_500, queries=20)
    out = tmp_path / "results.jsonl"
    ended = CliRunner().invoke(bench, ["recall", str(data), "--quick", "--out", str(out)])
    assert ended.exit_code == 0, ended.output
    lines = [one.line for one in read(out)]
    quality = {tuple(line.labels.values()): line for line in lines if line.measured == "quality"}
    for (task, stage, metric), line in quality.items():
        mean, low, high = (line.summary[name] for name in ("mean", "low", "high"))
        assert low is not None
        assert low <= mean <= high  # type: ignore[operator]
        if metric == "recall@10":
            assert mean <= quality[task, stage, "recall@100"].summary["mean"]  # type: ignore[operator]
    kept = quality["seen_removed", "item_knn", "ndcg@10"]
    assert np.mean(kept.samples) == pytest.approx(kept.summary["mean"], abs=1e-3)
    assert {"tail", "after_cart"} <= {line.labels["slice"] for line in lines if line.measured == "slice"}


def test_data_that_are_not_there_end_in_one_line(tmp_path: Path) -> None:
    ended = CliRunner().invoke(bench, ["recall", str(tmp_path / "nowhere"), "--quick"])
    assert ended.exit_code == 2
    assert ended.stderr.count("\n") == 1
