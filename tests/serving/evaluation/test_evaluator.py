"""The measurement of a release: what may be left unranked without changing a figure, what is left out of answers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from engine_changes import by_towers_alone, filtering_seen
from retrieval.data.requests import Requests
from retrieval.metrics.baselines import event_baselines, histories, query_baselines, targets_of
from retrieval.metrics.ranking import ndcg_at, recall_at, without_ties
from retrieval.sources.fusion import Fusion
from retrieval.text.analysis import Analyzer
from retrieval.text.rendering import item_texts
from retrieval.topk import CSR, Hits
from serving.answering.stages.rank import rerank
from serving.answering.tasks import TASKS as TASKS_BY_NAME
from serving.engine import Engine
from serving.evaluation.batch_requests import QueriesAlone, retrieved, with_texts
from serving.evaluation.evaluator import NOISY, Measurement
from serving.evaluation.figures import Figures, as_object, merge_reranked, needs_rerank, relevant_rows
from serving.settings import RunSettings
from serving.shop import Shop

Open = Callable[[Path, RunSettings], Shop]
TASKS = ("recommend", "recommend_unseen", "search", "personalised_search", "complete_cart")
MODES = [("recommend", "seen_removed"), ("recommend", "seen_kept"), *((task, None) for task in TASKS[2:])]


@pytest.fixture(scope="module")
def shop(sample_folder: Path, quick_settings: RunSettings, open_shop: Open) -> Shop:
    return open_shop(sample_folder, quick_settings)


@pytest.fixture(scope="module")
def measured(engine: Engine, shop: Shop) -> Measurement:
    state = filtering_seen(by_towers_alone(engine.state), False)
    return Measurement(replace(state, reranks=frozenset(TASKS)), shop, rerank_sample=0)


@pytest.fixture(scope="module")
def evaluated(measured: Measurement) -> Figures:
    found, _ = measured.evaluate(None, {}, "r", 0)
    return found


@pytest.fixture(scope="module")
def shut(measured: Measurement) -> Figures:
    """The same where no gate is open."""
    found, _ = replace(measured, state=replace(measured.state, reranks=frozenset())).evaluate(None, {}, "r", 0)
    return found


def stages(evaluation: Figures, task: str, mode: str | None = None) -> dict[str, Figures]:
    found = as_object(as_object(evaluation["tasks"])[task])
    found = as_object(found[mode]) if mode else found
    return {name: dict(as_object(stage)) for name, stage in as_object(found["stages"]).items()}


def test_leaving_requests_without_a_reachable_target_unranked_changes_no_figure(measured: Measurement) -> None:
    state, found = measured.state, measured.requests.recommendations("test")
    batch = with_texts(state, found.batch)
    hits, targets, texts = batch.candidates.hits, found.targets, batch.ranker_texts or ()
    whole = rerank(state, texts, hits, "recommend").hits
    which = np.flatnonzero(needs_rerank(hits.head(state.depth), targets))
    assert 0 < len(which) < len(found)
    part = rerank(state, [texts[i] for i in which.tolist()], hits.select(which), "recommend").hits
    merged = merge_reranked(hits, which, part)
    for measure in (ndcg_at, recall_at):
        for k in (5, 10, 20, 100):
            every, fewer = measure(without_ties(whole), targets, k), measure(merged, targets, k)
            np.testing.assert_allclose(every, fewer, atol=1e-6)


@pytest.mark.parametrize(("task", "mode"), MODES)
def test_the_final_order_is_the_reranked_one_exactly_where_the_gate_is_open(
    measured: Measurement, evaluated: Figures, shut: Figures, task: str, mode: str | None
) -> None:
    opened, closed = stages(evaluated, task, mode), stages(shut, task, mode)
    assert opened["final"] == opened["reranked"] == closed["reranked"]
    if closed["retrieval"]["recall@10"]:  # else no head holds a target whose place could change
        assert opened["final"] != opened["retrieval"]
    for name in ("recall@10", "ndcg@10", "mrr@10"):
        assert closed["final"][name] == pytest.approx(closed["retrieval"][name])


@pytest.mark.parametrize(
    ("task", "baselines"),
    [
        ("personalised_search", {"query_alone", "bm25", "popularity", "item_knn"}),
        ("complete_cart", {"popularity", "item_knn"}),
    ],
)
def test_searches_with_a_history_and_carts_stand_beside_their_baselines(
    measured: Measurement, evaluated: Figures, task: str, baselines: set[str]
) -> None:
    found = as_object(as_object(evaluated["tasks"])[task])
    given = stages(evaluated, task)
    assert set(given) - {"reweighed"} == baselines | {"retrieval", "reranked", "final"}
    for stage in given.values():
        assert {f"{name}@{k}" for name in ("recall", "ndcg", "mrr") for k in (10, 100)} <= set(stage)
        assert all(0 <= stage[f"recall@{k}"] <= 1 for k in (10, 100))  # type: ignore[operator]
    asked = {
        "personalised_search": [measured.requests.personalised_searches("test")],
        "complete_cart": measured.requests.carts("test"),
    }
    n = sum(int(np.count_nonzero(np.diff(part.targets.indptr))) for part in asked[task] if part is not None)
    assert found["n"] == n > 0
    assert as_object(as_object(found["changes"])["reranked"])["n"] == n


def test_a_search_with_a_history_is_held_against_the_same_query_of_nobody(measured: Measurement) -> None:
    found = measured.requests.personalised_searches("test")
    assert found is not None
    alone = retrieved(measured.state, QueriesAlone(found.batch.queries.typed), TASKS_BY_NAME["search"])
    task = measured.tasks(None)["personalised_search"]
    assert hits_of(task.stages["query_alone"]).tolist() == alone.candidates.hits.rows.tolist()
    assert hits_of(task.stages["query_alone"]).tolist() != hits_of(task.stages["retrieval"]).tolist()


def test_no_baseline_of_a_cart_answers_what_is_in_it(measured: Measurement) -> None:
    task = measured.tasks(None)["complete_cart"]
    carts = CSR.join([part.batch.users.given for part in measured.requests.carts("test")])
    for name in ("popularity", "item_knn", "retrieval"):
        rows = hits_of(task.stages[name])
        assert len(rows) == carts.n_lists
        for line, found in enumerate(rows):
            assert not np.isin(found, carts.select(np.array([line])).rows).any()


def test_carts_of_two_orders_are_measured_against_the_order_that_each_is_given(measured: Measurement) -> None:
    fusions = {"recommend": Fusion({"towers": 1.0, "co_occurrence": 1.0}), "recommend_unseen": Fusion.of_towers()}
    state = replace(measured.state, retriever=replace(measured.state.retriever, fusions=fusions))
    fused = replace(measured, state=state)
    parts, task = fused.requests.carts("test"), fused.tasks(None)["complete_cart"]
    assert len(parts) == 2
    given = np.concatenate([part.batch.candidates.hits.rows for part in parts])
    assert hits_of(task.stages["fused"]).tolist() == given.tolist()
    assert hits_of(task.stages["retrieval"]).tolist() != given.tolist()


def hits_of(ranked: object) -> np.ndarray:
    assert isinstance(ranked, Hits)
    return ranked.rows


def test_a_sample_of_requests_is_reranked_and_its_size_is_told(measured: Measurement, evaluated: Figures) -> None:
    few, shown = replace(measured, rerank_sample=7).evaluate(None, {}, "r", 2)
    for task, mode in MODES:
        sampled, whole = stages(few, task, mode), stages(evaluated, task, mode)
        assert sampled["retrieval"] == whole["retrieval"]
        found = as_object(as_object(few["tasks"])[task])
        found = as_object(found[mode]) if mode else found
        if "sample" not in found:
            assert found["n"] <= 7  # type: ignore[operator]
            continue
        part = as_object(found["sample"])
        assert 0 < part["n"] <= 7  # type: ignore[operator]
        assert set(as_object(part["stages"])) == set(whole)
        assert not {"reranked", "final"} & set(sampled)  # of other requests than these rows
    assert {example.kind for example in shown} <= {"shopper", "search"}


def test_examples_show_requests_whose_target_was_in_reach(measured: Measurement) -> None:
    _, shown = measured.evaluate(None, {}, "r", 2)
    assert 0 < len(shown) <= 4
    assert all(example.asked and example.before and example.after and example.targets for example in shown)


def test_the_gate_counts_the_requests_of_its_own_fold(measured: Measurement, shop: Shop) -> None:
    assert shop.events is not None
    assert shop.judgements is not None
    gates = measured.gates()
    assert set(gates) == set(TASKS)
    recommend, search = gates["recommend"].verdict, gates["search"].verdict
    assert recommend.n == len(shop.events.folds["gate"])
    assert recommend.users == len(np.unique(shop.events.folds["gate"].user))
    assert 0 < search.n <= len(shop.judgements.folds["gate"])
    searches, carts = measured.requests.personalised_searches("gate"), measured.requests.carts("gate")
    assert searches is not None
    assert gates["personalised_search"].verdict.n == len(searches)
    assert gates["complete_cart"].verdict.n == sum(map(len, carts))
    assert gates == measured.gates()


@pytest.mark.parametrize("filter_seen", [False, True])
def test_the_reranked_order_is_held_against_what_a_shop_would_show_otherwise_too(
    measured: Measurement, shop: Shop, filter_seen: bool
) -> None:
    assert shop.events is not None
    assert shop.judgements is not None
    assert shop.data.events is not None
    many = Requests.join([shop.events.folds[name] for name in ("gate", "ranker_train", "ranker_valid", "test")])
    folds = {**shop.events.folds, "gate": many}  # the tiny towers find nothing for the few searches of the gate alone
    shop = replace(shop, events=replace(shop.events, folds=folds))
    measured = replace(measured, state=filtering_seen(measured.state, filter_seen), shop=shop)
    gates, asked, events = measured.gates(), measured.requests, shop.data.events
    requests = shop.events.folds["gate"]
    seen = histories(events, requests, shop.target_events) if filter_seen else None
    wanted = targets_of(requests) if seen is None else targets_of(requests).without(seen)
    popular = event_baselines(events, requests, shop.events, shop.data.n_items)["popularity"]
    queries = shop.judgements.folds["gate"]
    typed, judged = shop.query_texts(queries), relevant_rows(*shop.judged(queries))
    words = query_baselines(typed, item_texts(shop.data.items), Analyzer())["bm25"]
    searches = asked.personalised_searches("gate")
    assert searches is not None
    alone = retrieved(measured.state, QueriesAlone(searches.batch.queries.typed), TASKS_BY_NAME["search"])
    for name, gated, found, places, targets in (
        (
            "popularity",
            gates["recommend"],
            asked.recommendations("gate").batch,
            popular.places(wanted, exclude=seen),
            wanted,
        ),
        ("bm25", gates["search"], asked.searches("gate").batch, words.places(judged), judged),
        ("query_alone", gates["personalised_search"], searches.batch, alone.candidates.hits, searches.targets),
    ):
        given, other = ndcg_at(found.candidates.hits, targets, 10), ndcg_at(places, targets, 10)
        known = ~np.isnan(given)
        assert (set(gated.against), gated.against[name].n) == ({name}, gated.verdict.n)
        # both changes end in one reranked order: they differ by what the orders differ by that they begin with
        apart = gated.against[name].mean - gated.verdict.mean
        assert apart == pytest.approx(given[known].mean() - other[known].mean(), abs=1e-6) != 0
    assert set(gates["complete_cart"].against) == {"item_knn"}
    assert gates["complete_cart"].against["item_knn"].n == gates["complete_cart"].verdict.n


def test_without_a_ranker_there_is_no_gate_and_retrieval_is_final(measured: Measurement) -> None:
    bare = replace(measured, state=replace(measured.state, steps=()))
    assert bare.gates() == {}
    found, _ = bare.evaluate(None, {}, "r", 1)
    for task, mode in MODES:
        given = stages(found, task, mode)
        assert "reranked" not in given
        assert given["final"]["recall@10"] == given["retrieval"]["recall@10"]
    assert "rmse" not in stages(found, "judged")["final"]


def test_a_shop_that_is_only_searched_has_gates_and_figures_of_search_alone(measured: Measurement, shop: Shop) -> None:
    only = replace(measured, shop=replace(shop, data=replace(shop.data, events=None), events=None))
    assert set(only.gates()) == {"search"}
    assert set(only.tasks(None)) == {"search"}


def test_misspelt_queries_are_reranked_where_a_benchmark_asks(measured: Measurement) -> None:
    measured = replace(measured, state=replace(measured.state, spelling=None))  # else they are read as the right ones
    assert not measured.tasks(None)["search"].variants[NOISY].sampled
    search = measured.tasks(None, noisy_reranked=True)["search"]
    noisy = search.variants[NOISY]
    assert set(noisy.sampled) == set(search.sampled)
    assert noisy.sampled["reranked"].rows.tolist() != search.sampled["reranked"].rows.tolist()


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
    retriever = replace(measured.state.retriever, fusions=fusions)
    fused = replace(measured, state=replace(measured.state, retriever=retriever, steps=()))
    found, _ = fused.evaluate(None, {}, "r", 1)
    for task, mode in (("recommend", "seen_kept"), ("recommend", "seen_removed"), ("search", None), ("judged", None)):
        given, before = stages(found, task, mode), stages(evaluated, task, mode)
        assert given["retrieval"] == pytest.approx(before["retrieval"])
        assert given["fused"]["ndcg@10"] != given["retrieval"]["ndcg@10"]
        assert given["final"]["ndcg@10"] == pytest.approx(given["fused"]["ndcg@10"])


def test_reranking_is_measured_against_the_weights_without_it(measured: Measurement) -> None:
    fusions = {"recommend": Fusion({"towers": 1.0, "own_frequency": 5.0})}
    retriever = replace(measured.state.retriever, fusions=fusions)
    found, _ = replace(measured, state=replace(measured.state, retriever=retriever)).evaluate(None, {}, "r", 0)
    kept = as_object(as_object(as_object(found["tasks"])["recommend"])["seen_kept"])
    changes = {name: as_object(change) for name, change in as_object(kept["changes"]).items()}
    given = {"fused": "reweighed", "reweighed": "reranked"} if "reweighed" in changes else {"fused": "reranked"}
    assert {change["against"]: name for name, change in changes.items()} == given
    for change in changes.values():
        shown = as_object(as_object(kept["stages"])[str(change["against"])])["ndcg@10"]
        assert as_object(change["before"])["mean"] == pytest.approx(shown)
