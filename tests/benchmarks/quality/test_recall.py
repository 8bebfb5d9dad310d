"""Quality: lines of every stage and slice, and a funnel in which every missed target is lost once."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from benchmarks.changes import changes
from benchmarks.cli.app import bench
from benchmarks.intervals import mean_intervals, owner_means
from benchmarks.quality.beyond_accuracy import groups_of
from benchmarks.quality.funnel import STEPS, Funnel
from benchmarks.quality.revenue import TargetEvents
from benchmarks.quality.slices import item_slices, query_slices
from benchmarks.result_lines import Line, read
from ranking.ordering.gate import gate
from retrieval.data.dataset import load
from retrieval.data.requests import Requests
from retrieval.metrics.ranking import recall_at
from retrieval.sample_shop.write import write_sample
from retrieval.text.analysis import Analyzer
from retrieval.topk import CSR, Hits


def lists(rows: list[list[int]]) -> Hits:
    """Lists of one length, best first."""
    table = np.array(rows, np.int64)
    return Hits(table, np.tile(-np.arange(table.shape[1], dtype=np.float32), (len(table), 1)))


def test_each_step_of_the_funnel_is_blamed_for_what_it_lost() -> None:
    funnel = Funnel(
        targets=CSR.from_lists([[0, 1, 2, 3, 4, 5, 99]]), n_items=20, removed=CSR.from_lists([[1]]),
        exact=lists([[0, 7, 8, 3, 4, 9]]), retrieved=lists([[0, 5, 8, 4, 10, 11]]),
        answered=lists([[0, 8, 5, 4, 10, 11]]),
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
        targets=targets,
        n_items=10,
        removed=removed,
        exact=lists(draw[1]),
        retrieved=given_lists,
        answered=answered,
        k=3,
    )
    found = funnel.counts()
    assert found["targets"] == found["answered"] + sum(found[step] for step in STEPS) == len(targets.rows)
    wanted = recall_at(answered, targets, 3) * np.diff(targets.indptr)
    assert found["answered"] == pytest.approx(np.nansum(wanted))
    assert found["unknown"] == np.count_nonzero(targets.rows >= 10)
    assert kept == funnel.retrieved.rows.tolist()


def test_price_bands_and_head_and_tail_divide_the_targets() -> None:
    items = pa.table({"item_id": list("abcdefgh"), "price": [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, None, 8.0]})
    targets = CSR.from_lists([[0, 3, 7], [6, 1]])
    found = item_slices(items, np.array([9, 1, 1, 9, 1, 1, 1, 1]), targets)
    assert found["head"].tolist() == [True, True, False, False, False]
    assert (found["head"] ^ found["tail"]).all()
    bands = np.stack([mask for name, mask in found.items() if name.startswith("price")])
    assert bands.sum(axis=0).tolist() == [1, 1, 1, 0, 1]
    assert not any(name.startswith("price") for name in item_slices(items.drop(["price"]), np.ones(8), targets))


def test_queries_are_told_apart_by_length_and_by_words_that_no_item_has() -> None:
    found = query_slices(
        ["deck screws", "a long grey screw"], ["Long grey screw", "A deck"], CSR.from_lists([[0], [0, 1]]), Analyzer()
    )
    assert found["long_queries"].tolist() == [False, True, True]
    assert not found["unknown_words"].any()
    assert query_slices(["skrew"], ["screw"], CSR.from_lists([[0]]), Analyzer())["unknown_words"].tolist() == [True]
    assert found["one_relevant"].tolist() == [True, False, False]


def test_intervals_of_several_columns_are_those_of_the_gate_for_each() -> None:
    rng = np.random.default_rng(0)
    users, values = rng.integers(0, 60, 200), rng.random((200, 2))
    values[:50, 1] = np.nan
    means, low, high = mean_intervals(values, users, resamples=4_000)
    for column in range(2):
        known = ~np.isnan(values[:, column])
        own = gate(np.zeros(known.sum()), values[known, column], users=users[known])
        assert means[column] == pytest.approx(own.mean)
        assert (low[column], high[column]) == pytest.approx((own.low, own.high), abs=0.005)
    assert np.isnan(mean_intervals(np.full((3, 1), np.nan), None, resamples=10)).all()


def test_a_shopper_who_asks_often_is_one_sample_of_a_comparison() -> None:
    rng = np.random.default_rng(0)
    users = np.repeat(np.arange(40), 25)
    luck = rng.random(40)  # all that the requests of a shopper tell is the shopper
    sides = [
        Line(
            measured="quality", labels={}, unit="share", summary={"mean": float(values.mean()), "n": 1_000.0},
            samples=owner_means(values, users).tolist(),
        )
        for values in (luck[users], np.clip(luck[users] + np.repeat(rng.normal(0.05, 0.3, 40), 25), 0, 1))
    ]  # fmt: skip
    (change,) = changes([(sides[0], sides[1])])
    assert change.before == pytest.approx(luck.mean())
    assert len(sides[0].samples) == 40
    assert (change.verdict, abs(change.ratio - 1) > 0.05) == ("same", True)


def test_a_target_is_worth_what_was_paid_for_it_in_its_own_basket(tmp_path: Path) -> None:
    rows = [
        # user, item, day, quantity, price, basket: a is bought twice in one basket, and once before
        ("u", "a", 1, 9, 9.0, "x"), ("u", "a", 2, 1, 2.0, "y"), ("u", "a", 2, 2, 2.0, "y"), ("u", "b", 2, 3, None, "y"),
        ("v", "a", 2, 1, 7.0, "z"),
    ]  # fmt: skip
    user, item, day, quantity, price, basket = (list(column) for column in zip(*rows, strict=True))
    stamps = pa.array([datetime(2026, 1, one, tzinfo=UTC) for one in day], pa.timestamp("us", "UTC"))
    table = {"user_id": user, "item_id": item, "event": ["purchase"] * 5, "timestamp": stamps, "quantity": quantity}
    pq.write_table(pa.table({**table, "price": price, "basket_id": basket}), tmp_path / "events.parquet")
    pq.write_table(pa.table({"item_id": ["a", "b"], "title": ["A", "B"]}), tmp_path / "items.parquet")
    events = load(tmp_path, now=datetime(2026, 2, 1, tzinfo=UTC)).events
    assert events is not None
    requests = Requests(np.int32([0]), np.int64([1]), np.int64([0, 2]), np.int32([0, 1]), events.time[1:2])
    taken = TargetEvents(events, requests, ("purchase",), CSR.from_lists([[0, 1]]))
    assert taken.worth(np.array([5.0, 4.0]), np.array([0, 1])).tolist() == [6.0, 12.0]
    assert taken.kinds().tolist() == [0, 0]


def test_an_item_belongs_to_the_first_of_its_categories() -> None:
    items = pa.table({"category": [["Home", "Mugs"], None, [], ["Mugs"], ["Home"]], "brand": [None] * 5})
    found = groups_of(items, "category")
    assert found is not None
    assert found.codes[0] == found.codes[4] != found.codes[3]
    assert found.codes[1] == found.codes[2] == -1
    assert found.names == ["Home", "Mugs"]
    assert groups_of(items.set_column(1, "brand", pa.array([None] * 5, pa.string())), "brand") is None
    assert groups_of(items, "seller") is None


def test_baselines_alone_are_measured_without_a_bundle(tmp_path: Path) -> None:
    data = write_sample(tmp_path / "sample-shop", items=120, shoppers=150, events=4_000, queries=20)
    out = tmp_path / "results.jsonl"
    ended = CliRunner().invoke(bench, ["recall", "--data", str(data), "--quick", "--out", str(out)])
    assert ended.exit_code == 0, ended.output
    lines = [one.line for one in read(out)]
    quality = {tuple(line.labels.values()): line for line in lines if line.measured == "quality"}
    for (task, stage, metric), line in quality.items():
        mean, low, high = (line.summary[name] for name in ("mean", "low", "high"))
        assert low is not None
        assert low <= mean <= high  # type: ignore[operator]
        if metric == "recall@10":
            assert mean <= quality[task, stage, "recall@100"].summary["mean"]  # type: ignore[operator]
    queries, requests = quality["search", "bm25", "ndcg@10"], quality["seen_removed", "item_knn", "ndcg@10"]
    assert np.mean(queries.samples) == pytest.approx(queries.summary["mean"], abs=1e-3)
    assert 10 < len(requests.samples) < requests.summary["n"]  # type: ignore[operator]  # one of each shopper
    assert {line.labels["task"] for line in lines if line.measured == "quality"} == {
        "seen_removed",
        "seen_kept",
        "search",
    }
    assert quality["seen_kept", "own_frequency", "repeat_recall@10"].summary["mean"]
    assert ("seen_removed", "own_frequency", "repeat_recall@10") not in quality
    slices = [line for line in lines if line.measured == "slice"]
    assert {"tail", "after_cart"} <= {line.labels["slice"] for line in slices}
    for line in slices:
        low, mean, high = (line.summary[f"ndcg@10{end}"] for end in (" low", "", " high"))
        assert low <= mean <= high  # type: ignore[operator]
    about = {line.labels["stage"]: {} for line in lines if line.measured == "beyond accuracy"}
    for line in lines:
        if line.measured == "beyond accuracy":
            about[line.labels["stage"]][line.labels["figure"]] = line.summary["value"]
    wanted = {"coverage@10", "novelty@10", "calibration@10", "brand_gap@10", "revenue@10", "revenue_per_request@10"}
    assert wanted <= set(about["popularity"])
    assert about["popularity"]["coverage@10"] < about["item_knn"]["coverage@10"]
    assert {"brand"} == {line.labels["by"] for line in lines if line.measured == "exposure"}


def test_queries_alone_are_measured_and_once_more_misspelt(tmp_path: Path) -> None:
    data = write_sample(tmp_path / "sample-shop", items=80, shoppers=80, events=1_500, queries=150)
    (data / "events.parquet").unlink()
    out = tmp_path / "results.jsonl"
    ended = CliRunner().invoke(bench, ["recall", "--data", str(data), "--quick", "--out", str(out)])
    assert ended.exit_code == 0, ended.output
    lines = [one.line for one in read(out)]
    assert {line.labels["task"] for line in lines} == {"search"}
    ndcg = {line.labels["slice"]: line.summary["ndcg@10"] for line in lines if line.measured == "slice"}
    whole = next(line.summary["mean"] for line in lines if line.labels.get("metric") == "ndcg@10")
    assert ndcg["noisy_queries"] < whole  # type: ignore[operator]


def test_data_that_are_not_there_end_in_one_line(tmp_path: Path) -> None:
    ended = CliRunner().invoke(bench, ["recall", "--data", str(tmp_path / "nowhere"), "--quick"])
    assert ended.exit_code == 2
    assert ended.stderr.count("\n") == 1
