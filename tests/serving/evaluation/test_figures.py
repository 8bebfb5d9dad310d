"""Evaluation: what each stage's map holds, and that the cheap way of counting reranking is the whole way."""

from __future__ import annotations

import io
import json
import math

import numpy as np
import pytest

from ranking.ordering.permute import rerank
from retrieval.metrics import ranking as metrics
from retrieval.topk import CSR, Hits
from serving.evaluation.figures import (
    CUTS,
    JudgedTask,
    MeasuredTask,
    evaluate,
    judged_figures,
    merge_reranked,
    needs_rerank,
    orderable,
    relevant_rows,
    rerank_sample,
    task_figures,
)
from serving.reporting.tables import tables

N_ITEMS = 40


def shortlists(rng, n, width=12):
    rows = np.stack([rng.permutation(N_ITEMS)[:width] for _ in range(n)])
    return Hits(rows, -np.sort(-rng.random((n, width), np.float32), axis=1))


def one_target(rng, n):
    return CSR(np.arange(n + 1), rng.integers(0, N_ITEMS, n))


def lists_of(*rows):
    table = np.array(rows)
    return Hits(table, np.tile(-np.arange(table.shape[1], dtype=np.float32), (len(table), 1)))


def test_reranking_only_where_the_target_is_listed_measures_the_same_on_300_requests():
    rng = np.random.default_rng(0)
    hits, targets = shortlists(rng, 300), one_target(rng, 300)
    scores = rng.random((300, 12), np.float32)
    everything = merge_reranked(hits, np.arange(300), rerank(hits, scores))
    which = needs_rerank(hits, targets)
    few = merge_reranked(hits, which, rerank(hits.select(which), scores[which]))
    both = [
        MeasuredTask(targets=targets, stages={"retrieval": hits}, sampled={"reranked": way})
        for way in (everything, few)
    ]
    assert 0 < np.count_nonzero(which) < 150
    assert task_figures(both[0]) == task_figures(both[1])
    assert not np.array_equal(everything.rows, few.rows)


def test_a_reranked_order_has_no_ties_though_retrieval_had():
    hits = Hits(np.array([[3, 5]]), np.ones((1, 2), np.float32))
    merged = merge_reranked(hits, np.array([0]), rerank(hits, np.array([[0, 1]], np.float32)))
    assert merged.rows.tolist() == [[5, 3]]
    assert metrics.mrr_at(merged, CSR.from_lists([[5]]), 5).tolist() == [1]


def test_a_stage_is_a_map_of_recall_ndcg_and_mrr_at_every_cut():
    rng = np.random.default_rng(1)
    hits, targets = shortlists(rng, 30), one_target(rng, 30)
    stage = task_figures(MeasuredTask(targets=targets, stages={"retrieval": hits}))["stages"]["retrieval"]
    assert set(stage) == {f"{name}@{k}" for name in ("recall", "ndcg", "mrr") for k in CUTS}
    assert stage["recall@10"] == pytest.approx(np.mean((hits.rows[:, :10] == targets.rows[:, None]).any(axis=1)))


def test_requests_without_a_target_are_left_out_of_n_and_of_every_mean():
    hits = lists_of([1, 2], [1, 2], [1, 2])
    task = MeasuredTask(targets=CSR.from_lists([[1], [], [9]]), stages={"retrieval": hits}, sampled={"reranked": hits})
    found = task_figures(task)
    assert found["n"] == found["changes"]["reranked"]["n"] == 2
    assert found["stages"]["retrieval"]["recall@5"] == 0.5


def test_what_was_run_for_a_sample_stands_beside_every_stage_on_that_sample():
    targets = CSR.from_lists([[row] for row in range(10)] * 4)
    third = lists_of(*([31, 30, row] for row in range(10))).select(np.tile(np.arange(10), 4))
    sample = rerank_sample(40, 25, seed=3)
    best = rerank(third.select(sample), np.tile([0, 0, 1], (25, 1)).astype(np.float32))
    stages = {"retrieval": third, "popularity": metrics.places_in(third, targets)}  # ranked lists, and places alone
    task = MeasuredTask(targets=targets, stages=stages, sampled={"reranked": best}, sample=sample)
    found = task_figures(task)
    change = found["changes"]["reranked"]
    assert found["n"] == 40
    assert set(found["stages"]) == {"retrieval", "popularity"}
    assert change["n"] == found["sample"]["n"] == 25
    assert set(found["sample"]["stages"]) == {"retrieval", "popularity", "reranked"}
    own = metrics.without_ties(third.select(sample))
    for stage in ("retrieval", "popularity"):
        assert found["sample"]["stages"][stage]["mrr@10"] == pytest.approx(
            metrics.mrr_at(own, targets.select(sample), 10).mean()
        )
    assert change["against"] == "retrieval"
    assert change["before"]["mean"] == pytest.approx(0.5)
    assert change["after"]["mean"] == pytest.approx(1.0)
    assert change["change"] == pytest.approx({"mean": 0.5, "low": 0.5, "high": 0.5})
    assert task_figures(task) == found


def test_the_interval_holds_the_mean_and_users_are_resampled_together():
    rng = np.random.default_rng(4)
    hits, targets = shortlists(rng, 200), one_target(rng, 200)
    order = rerank(hits, rng.random((200, 12), np.float32))
    apart = task_figures(MeasuredTask(targets=targets, stages={"retrieval": hits}, sampled={"reranked": order}))
    users = np.repeat(np.arange(10), 20)
    together = task_figures(
        MeasuredTask(targets=targets, stages={"retrieval": hits}, sampled={"reranked": order}, users=users)
    )
    for found in (apart, together):
        after = found["changes"]["reranked"]["after"]
        assert after["low"] < after["mean"] < after["high"]
        assert after["mean"] == pytest.approx(found["stages"]["reranked"]["ndcg@10"])
    assert apart["changes"] != together["changes"]


def test_the_rerank_sample_is_fixed_and_whole_where_asked():
    assert rerank_sample(5, 0).tolist() == rerank_sample(5, 9).tolist() == [0, 1, 2, 3, 4]
    first = rerank_sample(100, 10, seed=1)
    assert len(set(first.tolist())) == 10
    assert first.tolist() == sorted(first.tolist()) == rerank_sample(100, 10, seed=1).tolist()
    assert first.tolist() != rerank_sample(100, 10, seed=2).tolist()


def test_search_finds_the_highest_grade_and_says_how_much_of_the_top_was_judged():
    judged, grades = CSR.from_lists([[1, 2, 3], [4, 5]]), np.array([3.0, 1.0, 2.0, 2.0, 1.0])
    relevant = relevant_rows(judged, grades)
    assert relevant.indptr.tolist() == [0, 1, 1]
    assert relevant.rows.tolist() == [1]
    hits = lists_of([8, 3, 9, 1], [5, 8, 9, 7])
    task = MeasuredTask(targets=relevant, stages={"bm25": hits}, judged=judged, grades=grades)
    found = task_figures(task)
    stage = found["stages"]["bm25"]
    assert found["n"] == 1
    assert found["gain_judged"] == "exponential gain, 2^(grade - 1) - 1"
    assert stage["mrr@10"] == pytest.approx(1 / 4)
    assert stage["judged_share@10"] == pytest.approx((2 / 4 + 1 / 4) / 2)
    second = 1 / math.log2(3)
    assert stage["ndcg_judged@10"] == pytest.approx(((1 + 3 * second) / (3 + second) + 0 / 1) / 2)


def test_sampled_search_reads_the_judgements_of_its_own_queries():
    judged, grades = CSR.from_lists([[1, 2], [3], [4, 5]]), np.array([3.0, 1, 1, 1, 3])
    hits = lists_of([2, 1], [3, 9], [5, 4])
    sample = np.array([2])
    task = MeasuredTask(
        targets=relevant_rows(judged, grades),
        stages={"retrieval": hits},
        sampled={"reranked": hits.select(sample)},
        sample=sample,
        judged=judged,
        grades=grades,
    )
    stage = task_figures(task)["sample"]["stages"]["reranked"]
    assert stage["ndcg_judged@10"] == stage["recall@5"] == stage["judged_share@10"] == 1.0


def test_judged_items_are_ordered_by_query_and_errors_taken_over_all_pairs():
    judged = CSR.from_lists([[0, 1, 2, 3, 4], [5, 6], [7, 8, 9, 10, 11]])
    grades = np.array([1, 2, 3, 1, 1, 3, 1, 2, 2, 2, 2, 2], float)
    assert orderable(judged, grades).tolist() == [True, False, False]
    perfect, reverse = grades.astype(np.float32), -grades.astype(np.float32)
    found = judged_figures(
        JudgedTask(judged=judged, grades=grades, scores={"bm25": reverse}, predicted={"reranked": perfect - 0.5})
    )
    stages = found["stages"]
    assert (found["n"], found["pairs"]) == (1, 12)
    assert (found["gain"], found["gain_plain"]) == (
        "exponential gain, 2^(grade - 1) - 1",
        "exponential gain, 2^grade - 1",
    )
    assert stages["reranked"]["ndcg@10"] == stages["reranked"]["mrr@5"] == 1
    assert stages["reranked"]["rmse"] == pytest.approx(0.5)
    assert (stages["reranked"]["spearman"], stages["bm25"]["spearman"]) == (pytest.approx(1), pytest.approx(-1))
    assert "rmse" not in stages["bm25"]
    assert "spearman" not in stages["random"]
    discounts = [1 / math.log2(place + 1) for place in range(1, 6)]
    chance = (3 + 1) * np.mean(discounts) / (3 + discounts[1])
    assert stages["random"]["ndcg@10"] == pytest.approx(chance)
    assert stages["bm25"]["ndcg@10"] < stages["random"]["ndcg@10"]


def test_coverage_novelty_and_bias_come_with_the_counts():
    hits = lists_of([0, 1], [0, 2])
    stage = task_figures(
        MeasuredTask(targets=CSR.from_lists([[0], [2]]), stages={"retrieval": hits}, counts=np.array([4, 1, 1, 0]))
    )["stages"]["retrieval"]
    assert stage["coverage@10"] == 3 / 4
    assert stage["popularity_bias@10"] == pytest.approx((4 + 1 + 4 + 1) / 4 / (18 / 6))
    assert stage["novelty@10"] > 0


def whole_evaluation():
    rng = np.random.default_rng(6)
    hits, targets = shortlists(rng, 50), one_target(rng, 50)
    order = rerank(hits, rng.random((50, 12), np.float32))
    task = MeasuredTask(targets=targets, stages={"popularity": hits, "retrieval": hits}, sampled={"reranked": order})
    judged, grades = CSR.from_lists([[0, 1, 2, 3, 4]]), np.array([1.0, 2, 3, 1, 1])
    search = MeasuredTask(
        targets=relevant_rows(judged, grades),
        stages={"bm25": hits.head(5).select(np.array([0]))},
        judged=judged,
        grades=grades,
    )
    return evaluate(
        recommend={"seen_removed": task, "seen_kept": task},
        search=search,
        judged=JudgedTask(judged=judged, grades=grades, scores={"bm25": np.arange(5, dtype=np.float32)}),
        gates={"recommend": {"verdict": "likely"}},
        release="r1",
    )


def test_an_evaluation_is_one_json_object_with_the_agreed_keys():
    found = whole_evaluation()
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert set(found) == {"tasks", "gate", "release"}
    assert set(found["tasks"]) == {"recommend", "search", "judged"}
    assert set(found["tasks"]["recommend"]) == {"seen_removed", "seen_kept"}
    assert set(found["tasks"]["recommend"]["seen_kept"]["stages"]) == {"popularity", "retrieval", "reranked"}


def test_a_task_without_data_is_left_out_and_an_empty_one_gives_null_not_nan():
    assert evaluate() == {"tasks": {}, "gate": {}, "release": None}
    nobody = MeasuredTask(
        targets=CSR.from_lists([]), stages={"retrieval": Hits(np.empty((0, 3), np.int64), np.empty((0, 3), np.float32))}
    )
    found = evaluate(recommend={"seen_removed": nobody})["tasks"]["recommend"]["seen_removed"]
    assert found["n"] == 0
    assert found["stages"]["retrieval"]["recall@10"] is None


def test_tables_show_every_stage_its_gain_and_the_interval():
    from rich.console import Console

    console = Console(width=120, record=True, file=io.StringIO())
    found = whole_evaluation()
    for table in tables(found):
        console.print(table)
    text = console.export_text()
    for expected in (
        "popularity",
        "retrieval",
        "with the text model",
        "with the text model against retrieval: nDCG@10",
        "BM25",
        "random",
        "linear gain",
        "exponential gain, 2^(grade - 1) - 1",
    ):
        assert expected in text
    stage = found["tasks"]["recommend"]["seen_removed"]["stages"]["retrieval"]
    assert f"{stage['recall@10']:.4f}".removeprefix("0") in text
    assert "n = 50" in text
    assert "95 % interval" in text
