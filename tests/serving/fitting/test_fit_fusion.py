"""The fusion is fitted on what no tower learned from, on what the sources propose, for each task apart."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from retrieval.metrics.ranking import ndcg_at
from retrieval.sources.fusion import TOWERS, Fusion
from serving.answering.source_registry import BEFORE, OWN
from serving.engine import Engine
from serving.evaluation.batch_requests import Offline
from serving.fitting import fit_fusion as fusing
from serving.fitting.fit_fusion import fit_fusions
from serving.settings import RunConfig
from serving.shop import Shop

TAKEN = (OWN, BEFORE)  # sources of what is taken again

Open = Callable[[Path, RunConfig], Shop]


@pytest.fixture(scope="module")
def shop(sample_folder: Path, quick_settings: RunConfig, open_shop: Open) -> Shop:
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
    asked = dict(fit_fusions(engine.stages, unjudged, remove_seen=True))["search"]
    assert asked.sources == ("words",)
    assert asked.weights[TOWERS] > asked.weights["words"] > 0, "BM25 spreads wider than an inner product"
    alone = replace(unjudged, data=replace(shop.data, events=None), events=None)
    titles = dict(fit_fusions(engine.stages, alone, remove_seen=True))
    assert list(titles) == ["search"]
    assert titles["search"].sources == ("words",)
    assert titles["search"] != asked


def test_a_fusion_that_orders_no_better_leaves_the_towers_alone(
    engine: Engine, shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fusing, "fit_fusion", lambda names, *_: Fusion(dict.fromkeys(names, 1e-9) | {TOWERS: 2.0}))
    alone = Fusion.of_towers()
    assert dict(fit_fusions(engine.stages, shop, remove_seen=True)) == {"recommend": alone, "search": alone}


def test_recommendation_is_fitted_on_both_folds_that_towers_never_saw(
    engine: Engine, shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[int] = []
    monkeypatch.setattr(
        fusing, "fit", lambda _, outcomes, __: told.append(outcomes.targets.n_lists) or Fusion.of_towers()
    )
    monkeypatch.setattr(fusing, "REQUESTS", 7)
    assert shop.events is not None
    assert all(len(shop.events.folds[name]) > 7 for name in ("ranker_train", "ranker_valid"))
    dict(fit_fusions(engine.stages, shop, remove_seen=False))
    assert told[:2] == [14, 14]


@pytest.mark.parametrize("remove_seen", [True, False])
@pytest.mark.parametrize("kind", ["temporal", "leave_one_out"])
def test_which_sources_are_asked_depends_on_the_split_and_on_repeats(
    engine: Engine, shop: Shop, remove_seen: bool, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[str, ...]] = []
    monkeypatch.setattr(fusing, "fit", lambda _, __, names: asked.append(names) or Fusion.of_towers())
    assert shop.events is not None
    of_kind = replace(shop, events=replace(shop.events, kind=kind))
    fitted = dict(fit_fusions(engine.stages, of_kind, remove_seen=remove_seen))
    recommend, *new, search = asked
    assert list(fitted) == ["recommend", *(["recommend_unseen"] if not remove_seen else []), "search"]
    of_new = {"newness", "price_fit"} if kind == "temporal" else {"price_fit"}
    assert all(set(names) == (set(recommend) - {*TAKEN}) | of_new for names in new)
    assert {"newness", "price_fit"} & set(recommend) == (of_new if remove_seen else set())
    assert search == ("words",)
    assert {"co_occurrence", "right_after"} <= set(recommend)
    assert ("own_frequency" in recommend) == ("taken_before" in recommend) == (not remove_seen)
    lately = {"popularity_7d", "popularity_30d", "together_14d"}
    assert lately & set(recommend) == (lately if kind == "temporal" else set())


def test_a_shop_without_prices_is_not_asked_how_they_fit(
    engine: Engine, shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[str, ...]] = []
    monkeypatch.setattr(fusing, "fit", lambda _, __, names: asked.append(names) or Fusion.of_towers())
    sources = {name: source for name, source in engine.stages.retriever.sources.items() if name != "price_fit"}
    stages = replace(engine.stages, retriever=replace(engine.stages.retriever, sources=sources))
    dict(fit_fusions(stages, shop, remove_seen=True))
    assert not any("price_fit" in names for names in asked)


def test_on_what_it_was_fitted_the_fusion_orders_better_than_the_towers(engine: Engine, shop: Shop) -> None:
    assert shop.events is not None
    assert shop.data.events is not None
    fusions = dict(fit_fusions(engine.stages, shop, remove_seen=False))
    assert fusions["recommend"].sources
    stages = replace(engine.stages, retriever=replace(engine.stages.retriever, fusions=fusions))
    offline = Offline.of(stages, shop.data.events, shop.target_events)
    requests = shop.events.folds["test"]
    targets = offline.targets(requests, None)
    fused, alone = offline.shortlists(requests, None), offline.by_towers(requests, None)
    assert np.nanmean(ndcg_at(fused, targets, 20)) > np.nanmean(ndcg_at(alone, targets, 20))


def test_the_engine_follows_the_fusion_of_its_release(engine: Engine) -> None:
    recorded = engine.release.settings["fusion"]
    assert isinstance(recorded, dict)
    assert {task: fusion.as_json() for task, fusion in engine.stages.retriever.fusions.items()} == recorded
    assert set(recorded) == {"recommend", "recommend_unseen", "search"}


def test_who_asks_for_something_new_gets_the_order_that_was_fitted_for_it(engine: Engine, shop: Shop) -> None:
    kept, new, search = Fusion({TOWERS: 1.0, "co_occurrence": 2.0}), Fusion({TOWERS: 3.0}), Fusion.of_towers()
    fusions = {"recommend": kept, "recommend_unseen": new, "search": search}
    retriever = replace(engine.stages.retriever, fusions=fusions)
    assert [retriever.fusion(name) for name in ("recommend", "recommend_unseen", "search")] == [kept, new, search]
    assert replace(retriever, fusions={"recommend": kept}).fusion("recommend_unseen") == kept
