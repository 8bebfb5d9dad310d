"""The fusion is fitted on what no tower learned from, on what the sources propose, for each task apart."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from engine_changes import filtering_seen
from retrieval.data.relations import COMPLEMENT, Relations
from retrieval.metrics.ranking import ndcg_at
from retrieval.sources.fusion import TOWERS, Fusion
from retrieval.sources.registry import FitCase, sources_for
from serving.answering.source_registry import OpenedParts, Sources
from serving.engine import Engine
from serving.evaluation.batch_requests import by_towers
from serving.evaluation.labelled import LabelledRequests
from serving.fitting import fit_fusion as fusing
from serving.fitting.fit_fusion import PermittedRequests, fit_fusions
from serving.settings import RunSettings
from serving.shop import Shop

TAKEN = {"own_frequency", "taken_before"}  # sources of what is taken again

Open = Callable[[Path, RunSettings], Shop]


@pytest.fixture(scope="module")
def shop(sample_folder: Path, quick_settings: RunSettings, open_shop: Open) -> Shop:
    """The sample shop with its test requests as ranker_valid: a fold to fit on."""
    shop = open_shop(sample_folder, quick_settings)
    assert shop.events is not None
    assert shop.judgements is not None
    events = replace(shop.events, folds={**shop.events.folds, "ranker_valid": shop.events.folds["test"]})
    queries = {**shop.judgements.folds, "ranker_valid": shop.judgements.folds["train"]}
    return replace(shop, events=events, judgements=replace(shop.judgements, folds=queries))


def test_without_an_outcome_search_reads_words_as_loud_as_the_towers(engine: Engine, shop: Shop) -> None:
    assert shop.judgements is not None
    unjudged = replace(shop, judgements=None)
    asked = dict(fit_fusions(engine.state, unjudged))["search"]
    assert asked.sources == ("words",)
    assert asked.weights[TOWERS] > asked.weights["words"] > 0, "BM25 spreads wider than an inner product"
    alone = replace(unjudged, data=replace(shop.data, events=None), events=None)
    titles = dict(fit_fusions(engine.state, alone))
    assert list(titles) == ["search"]
    assert titles["search"].sources == ("words",)
    assert titles["search"] != asked


@pytest.mark.parametrize(("n", "left_alone"), [(40, True), (15, False)])
def test_a_fusion_that_is_proven_to_order_worse_leaves_the_towers_alone(
    engine: Engine, shop: Shop, monkeypatch: pytest.MonkeyPatch, n: int, left_alone: bool
) -> None:
    monkeypatch.setattr(fusing, "fit_fusion", lambda names, *_: Fusion(dict.fromkeys(names, 1.0)))
    figures = iter((0.4, 0.5) * 2)  # by all sources, then by the towers alone
    monkeypatch.setattr(
        fusing, "ndcg_at", lambda hits, *_: np.where(np.arange(len(hits.rows)) < n, next(figures), np.nan)
    )
    assert shop.events is not None
    only_search = replace(shop, events=None)
    assert shop.judgements is not None
    asked = np.concatenate(list(shop.judgements.folds.values()))
    folds = {**shop.judgements.folds, "ranker_valid": np.sort(asked)}
    fitted = dict(fit_fusions(engine.state, replace(only_search, judgements=replace(shop.judgements, folds=folds))))
    assert (fitted["search"] == Fusion.of_towers()) == left_alone


def test_a_few_outcomes_do_not_throw_away_what_was_expected(engine: Engine, shop: Shop) -> None:
    assert shop.judgements is not None
    folds = shop.judgements.folds
    few = replace(shop.judgements, folds={**folds, "ranker_valid": folds["ranker_valid"][:5]})
    fitted = dict(fit_fusions(engine.state, replace(shop, judgements=few)))["search"]
    assert fitted.sources == ("words",)
    none = dict(fit_fusions(engine.state, replace(shop, judgements=None)))["search"]
    ratio = fitted.weights["words"] / fitted.weights[TOWERS]
    assert ratio == pytest.approx(none.weights["words"] / none.weights[TOWERS], rel=1.0)


Fitted = list[tuple[PermittedRequests, FitCase]]


@pytest.fixture
def fitted(monkeypatch: pytest.MonkeyPatch) -> Fitted:
    """What every fusion would be fitted on; nothing is fitted."""
    found: Fitted = []
    monkeypatch.setattr(fusing, "fit", lambda _, given, case: found.append((given, case)) or Fusion.of_towers())
    return found


def test_recommendation_is_fitted_on_both_folds_that_towers_never_saw(
    engine: Engine, shop: Shop, fitted: Fitted, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fusing, "REQUESTS", 7)
    assert shop.events is not None
    assert all(len(shop.events.folds[name]) > 7 for name in ("ranker_train", "ranker_valid"))
    dict(fit_fusions(filtering_seen(engine.state, False), shop))
    assert [given.targets.n_lists for given, _ in fitted][:2] == [14, 14]


@pytest.mark.parametrize("filter_seen", [True, False])
@pytest.mark.parametrize("kind", ["temporal", "leave_one_out"])
def test_which_sources_are_weighted_depends_on_the_split_and_on_repeats(
    engine: Engine, shop: Shop, fitted: Fitted, filter_seen: bool, kind: str
) -> None:
    assert shop.events is not None
    of_kind = replace(shop, events=replace(shop.events, kind=kind))
    orders = list(dict(fit_fusions(filtering_seen(engine.state, filter_seen), of_kind)))
    assert orders == ["recommend", *([] if filter_seen else ["recommend_unseen"]), "complete_cart", "search"]
    recommend, *new, cart, search = (sources_for(case) for _, case in fitted)
    assert set(cart) == set(recommend) | {"same_basket", "complements"}
    of_new = {"newness", "price_fit"} if kind == "temporal" else {"price_fit"}
    assert all(set(names) == (set(recommend) - TAKEN) | of_new for names in new)
    assert {"newness", "price_fit"} & set(recommend) == (of_new if filter_seen else set())
    assert search == ("words",)
    assert {"co_occurrence", "right_after"} <= set(recommend)
    assert TAKEN & set(recommend) == (set() if filter_seen else TAKEN)
    lately = {"popularity_7d", "popularity_30d", "together_14d"}
    assert lately & set(recommend) == (lately if kind == "temporal" else set())


def test_what_was_taken_before_is_neither_proposed_nor_to_be_found_where_new_things_are_asked_for(
    engine: Engine, shop: Shop, fitted: Fitted
) -> None:
    dict(fit_fusions(filtering_seen(engine.state, False), shop))
    (any_item, _), (new, _), *_ = fitted
    assert any_item.batch.exclude is None
    assert new.batch.exclude is not None
    taken = new.batch.users.taken
    assert any_item.targets.listed_in(taken).any()
    assert not new.targets.listed_in(taken).any()
    np.testing.assert_array_equal(new.batch.exclude.rows, taken.rows)


def test_a_source_that_a_shop_lacks_has_no_weight(engine: Engine, shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    features: list[tuple[str, ...]] = []
    monkeypatch.setattr(fusing, "fit_fusion", lambda names, *_: features.append(names) or Fusion.of_towers())
    state = filtering_seen(engine.state, True)
    dict(fit_fusions(state, shop))
    assert "price_fit" in features[0]
    retriever = state.retriever
    sources = {name: source for name, source in retriever.sources.items() if name != "price_fit"}
    features.clear()
    dict(fit_fusions(replace(state, retriever=replace(retriever, sources=sources)), shop))
    assert len(features) == 3
    assert not any("price_fit" in names for names in features)


def test_on_what_it_was_fitted_the_fusion_orders_better_than_the_towers(engine: Engine, shop: Shop) -> None:
    assert shop.events is not None
    state = filtering_seen(engine.state, False)
    fusions = dict(fit_fusions(state, shop))
    assert fusions["recommend"].sources
    state = replace(state, retriever=replace(state.retriever, fusions=fusions))
    found = LabelledRequests(state, shop).recommendations("test")
    fused, alone = found.batch.candidates.hits, by_towers(found.batch, state)
    assert np.nanmean(ndcg_at(fused, found.targets, 20)) > np.nanmean(ndcg_at(alone, found.targets, 20))


def test_the_engine_follows_the_fusion_of_its_release(engine: Engine) -> None:
    recorded = engine.release.settings["fusion"]
    assert isinstance(recorded, dict)
    assert {task: fusion.as_json() for task, fusion in engine.state.retriever.fusions.items()} == recorded
    assert set(recorded) == {"recommend", "recommend_unseen", "complete_cart", "search"}


def test_who_asks_for_something_new_gets_the_order_that_was_fitted_for_it(engine: Engine, shop: Shop) -> None:
    kept, new, search = Fusion({TOWERS: 1.0, "co_occurrence": 2.0}), Fusion({TOWERS: 3.0}), Fusion.of_towers()
    fusions = {"recommend": kept, "recommend_unseen": new, "search": search}
    retriever = replace(engine.state.retriever, fusions=fusions)
    assert [retriever.fusion(name) for name in ("recommend", "recommend_unseen", "search")] == [kept, new, search]
    assert replace(retriever, fusions={"recommend": kept}).fusion("recommend_unseen") == kept


def test_a_shop_that_only_says_what_goes_with_an_item_answers_carts_with_it(engine: Engine, shop: Shop) -> None:
    events = shop.events
    assert events is not None
    assert shop.data.events is not None
    folds = {name: fold.select(np.flatnonzero(np.diff(fold.target_ptr) < 2)) for name, fold in events.folds.items()}
    alone = replace(shop, events=replace(events, folds=folds))
    assert "complete_cart" not in dict(fit_fusions(engine.state, alone))
    relations = Relations(
        item=np.arange(20, dtype=np.int32),
        related=np.arange(20, 40, dtype=np.int32),
        kind=np.full(20, COMPLEMENT, np.int8),
    )
    size, store = engine.state.version.size, engine.state.user_store
    completes = {**store.similarities, "completes": lambda: relations.matrix((COMPLEMENT,), size)}
    parts = OpenedParts(engine.state.version, replace(store, similarities=completes), ("purchase",), None, "en")
    state = replace(engine.state, retriever=replace(engine.state.retriever, sources=Sources(parts)))
    weights = dict(fit_fusions(state, replace(alone, data=replace(shop.data, relations=relations))))
    assert weights["complete_cart"].weights["complements"] > 0
