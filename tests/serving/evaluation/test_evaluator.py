"""The measurement of a release: what may be left unranked without changing a figure, what is left out of answers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from retrieval.metrics.baselines import event_baselines, histories, query_baselines, targets_of
from retrieval.metrics.ranking import ndcg_at, recall_at, settled
from retrieval.sources.fusion import Fusion
from retrieval.text.rendering import item_texts
from serving.engine import Engine
from serving.evaluation.batch_requests import Offline, query_shortlists
from serving.evaluation.evaluator import Measurement
from serving.evaluation.figures import Figures, as_object, merge_reranked, needs_rerank, relevant_rows
from serving.settings import RunConfig
from serving.shop import Shop

Open = Callable[[Path, RunConfig], Shop]
ON: dict[str, Figures] = {task: {"verdict": "proven", "on": True} for task in ("recommend", "search")}


@pytest.fixture(scope="module")
def shop(sample_folder: Path, quick_settings: RunConfig, open_shop: Open) -> Shop:
    return open_shop(sample_folder, quick_settings)


@pytest.fixture(scope="module")
def measured(engine: Engine, shop: Shop) -> Measurement:
    retriever = replace(engine.stages.retriever, fusions={})  # the towers alone
    return Measurement(replace(engine.stages, retriever=retriever), shop, remove_seen=False, rerank_sample=0)


@pytest.fixture(scope="module")
def evaluated(measured: Measurement) -> Figures:
    found, _ = measured.evaluate(None, ON, "r", 0)
    return found


def stages(evaluation: Figures, task: str, mode: str | None = None) -> dict[str, Figures]:
    found = as_object(as_object(evaluation["tasks"])[task])
    found = as_object(found[mode]) if mode else found
    return {name: dict(as_object(stage)) for name, stage in as_object(found["stages"]).items()}


def test_leaving_requests_without_a_reachable_target_unranked_changes_no_figure(
    measured: Measurement, shop: Shop
) -> None:
    assert shop.events is not None
    assert shop.data.events is not None
    everyone = shop.events.folds["test"]
    requests = everyone.select(np.resize(np.arange(len(everyone)), 300))
    offline = Offline.of(measured.stages, shop.data.events, shop.target_events)
    hits, targets, texts = offline.shortlists(requests, None), targets_of(requests), offline.user_texts(requests)
    whole = measured.stages.rerank(texts, hits, "recommend").hits
    which = np.flatnonzero(needs_rerank(hits.head(measured.stages.depth), targets))
    assert 0 < len(which) < len(requests)
    head = hits.select(which)
    part = measured.stages.rerank([texts[i] for i in which.tolist()], head, "recommend").hits
    merged = merge_reranked(hits, which, part)
    for measure in (ndcg_at, recall_at):
        for k in (5, 10, 20, 100):
            every, fewer = measure(settled(whole), targets, k), measure(merged, targets, k)
            np.testing.assert_allclose(every, fewer, atol=1e-6)


def test_an_evaluation_leaves_out_what_the_engine_leaves_out(measured: Measurement, shop: Shop) -> None:
    assert shop.events is not None
    assert shop.data.events is not None
    requests = shop.events.folds["test"]
    ours = Offline.of(measured.stages, shop.data.events, shop.target_events).seen(requests)
    theirs = histories(shop.data.events, requests, shop.target_events)
    pairs = [set(zip(seen.owners.tolist(), seen.rows.tolist(), strict=True)) for seen in (ours, theirs)]
    assert pairs[0] == pairs[1]
    assert pairs[0]


@pytest.mark.parametrize(
    ("task", "mode"), [("recommend", "seen_removed"), ("recommend", "seen_kept"), ("search", None)]
)
def test_the_final_order_is_the_reranked_one_exactly_where_the_gate_is_open(
    measured: Measurement, evaluated: Figures, task: str, mode: str | None
) -> None:
    opened = stages(evaluated, task, mode)
    assert opened["final"] == opened["reranked"]
    assert opened["final"] != opened["retrieval"]
    shut, _ = measured.evaluate(None, {task: {"on": False}}, "r", 0)
    closed = stages(shut, task, mode)
    assert closed["reranked"] == opened["reranked"]
    for name in ("recall@10", "ndcg@10", "mrr@10"):
        assert closed["final"][name] == pytest.approx(closed["retrieval"][name])


def test_a_sample_of_requests_is_reranked_and_its_size_is_told(measured: Measurement, evaluated: Figures) -> None:
    few, shown = replace(measured, rerank_sample=7).evaluate(None, ON, "r", 2)
    for mode in ("seen_removed", "seen_kept"):
        sampled, whole = stages(few, "recommend", mode), stages(evaluated, "recommend", mode)
        assert sampled["reranked"]["n"] <= 7  # type: ignore[operator]
        assert sampled["retrieval"] == whole["retrieval"]
    assert {example.kind for example in shown} <= {"shopper", "search"}


def test_examples_show_requests_whose_target_was_in_reach(measured: Measurement) -> None:
    _, shown = measured.evaluate(None, ON, "r", 2)
    assert 0 < len(shown) <= 4
    assert all(example.asked and example.before and example.after and example.targets for example in shown)


def test_the_gate_counts_the_requests_of_its_own_fold(measured: Measurement, shop: Shop) -> None:
    assert shop.events is not None
    assert shop.judgements is not None
    recommend, search = measured.gate_recommend(), measured.gate_search()
    assert recommend is not None
    assert search is not None
    assert recommend.verdict.n == len(shop.events.folds["gate"])
    assert recommend.verdict.users == len(np.unique(shop.events.folds["gate"].user))
    assert 0 < search.verdict.n <= len(shop.judgements.folds["gate"])
    assert recommend == measured.gate_recommend()


@pytest.mark.parametrize("remove_seen", [False, True])
def test_the_reranked_order_is_held_against_what_is_popular_and_bm25_too(
    measured: Measurement, shop: Shop, remove_seen: bool
) -> None:
    assert shop.events is not None
    assert shop.judgements is not None
    assert shop.data.events is not None
    measured, events = replace(measured, remove_seen=remove_seen), shop.data.events
    recommend, search = measured.gate_recommend(), measured.gate_search()
    assert recommend is not None
    assert search is not None
    requests, queries = shop.events.folds["gate"], shop.judgements.folds["gate"]
    seen = histories(events, requests, shop.target_events) if remove_seen else None
    wanted = targets_of(requests) if seen is None else targets_of(requests).without(seen)
    popular = event_baselines(events, requests, shop.events, shop.data.n_items)["popularity"]
    answered = Offline.of(measured.stages, events, shop.target_events).shortlists(requests, seen)
    typed, judged = shop.query_texts(queries), relevant_rows(*shop.judged(queries))
    words = query_baselines(typed, item_texts(shop.data.items))["bm25"]
    read = measured.stages.spelled(typed)
    searched = query_shortlists(measured.stages, read, measured.stages.user.queries(read))
    for name, gated, hits, places, targets in (
        ("popularity", recommend, answered, popular.places(wanted, exclude=seen), wanted),
        ("bm25", search, searched, words.places(judged), judged),
    ):
        given, other = ndcg_at(hits, targets, 10), ndcg_at(places, targets, 10)
        known = ~np.isnan(given)
        assert (set(gated.against), gated.against[name].n) == ({name}, gated.verdict.n)
        # both changes end in one reranked order: they differ by what the orders differ by that they begin with
        apart = gated.against[name].mean - gated.verdict.mean
        assert apart == pytest.approx(given[known].mean() - other[known].mean(), abs=1e-6) != 0


def test_without_a_ranker_there_is_no_gate_and_retrieval_is_final(measured: Measurement) -> None:
    bare = replace(measured, stages=replace(measured.stages, steps=()))
    assert bare.gate_recommend() is None
    assert bare.gate_search() is None
    found, _ = bare.evaluate(None, {}, "r", 1)
    given = stages(found, "recommend", "seen_kept")
    assert "reranked" not in given
    assert given["final"]["recall@10"] == given["retrieval"]["recall@10"]
    assert "rmse" not in stages(found, "judged")["final"]


def test_a_judged_order_has_an_error_only_where_grades_are_predicted(evaluated: Figures) -> None:
    found = stages(evaluated, "judged")
    assert [name for name, stage in found.items() if "rmse" in stage] == ["reranked", "final"]
    assert "ndcg@10" in found["random"]


def test_with_several_sources_the_towers_alone_stand_beside_the_fused_order(
    measured: Measurement, evaluated: Figures
) -> None:
    fusions = {
        "recommend": Fusion({"towers": 1.0, "co_occurrence": 1.0, "own_frequency": 1.0}),
        "search": Fusion({"towers": 1.0, "words": 0.2}),
    }
    retriever = replace(measured.stages.retriever, fusions=fusions)
    fused = replace(measured, stages=replace(measured.stages, retriever=retriever, steps=()))
    found, _ = fused.evaluate(None, {}, "r", 1)
    for task, mode in (("recommend", "seen_kept"), ("recommend", "seen_removed"), ("search", None), ("judged", None)):
        given, before = stages(found, task, mode), stages(evaluated, task, mode)
        assert given["retrieval"] == pytest.approx(before["retrieval"])
        assert given["fused"]["ndcg@10"] != given["retrieval"]["ndcg@10"]
        assert given["final"]["ndcg@10"] == pytest.approx(given["fused"]["ndcg@10"])


def test_reranking_is_measured_against_the_order_that_it_is_given(measured: Measurement) -> None:
    fusions = {"recommend": Fusion({"towers": 1.0, "own_frequency": 5.0})}
    retriever = replace(measured.stages.retriever, fusions=fusions)
    found, _ = replace(measured, stages=replace(measured.stages, retriever=retriever)).evaluate(None, ON, "r", 0)
    kept = as_object(as_object(as_object(found["tasks"])["recommend"])["seen_kept"])
    before = as_object(as_object(as_object(kept["reranking"])["reranked"])["before"])
    assert before["mean"] == pytest.approx(as_object(as_object(kept["stages"])["fused"])["ndcg@10"])
