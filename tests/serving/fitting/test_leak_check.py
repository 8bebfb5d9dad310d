"""Features as of the request's time: ours know nothing later, and one that counts the target is found by its name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ranking.features import registry
from ranking.features.facts import ShopFacts
from ranking.features.registry import Feature, FeatureGroup, Values, register_group
from ranking.features.shortlists import Shortlists
from retrieval.errors import BadConfig
from retrieval.sources import registry as sources
from retrieval.sources.recent import RecentPopularity
from retrieval.sources.registry import FitCase, ReleaseParts, SourceSpec, register_source
from serving.answering.release_state import ReleaseState
from serving.answering.source_registry import OpenedParts, Sources
from serving.engine import Engine
from serving.fitting.fit_second_stage import feature_names
from serving.fitting.leak_check import leaking_features, require_no_leak
from serving.settings import RunSettings, read_settings
from serving.shop import Shop

Open = Callable[[Path, RunSettings], Shop]


@pytest.fixture(scope="module")
def shop(sample_folder: Path, quick_settings: RunSettings, open_shop: Open) -> Shop:
    return open_shop(sample_folder, quick_settings)


@pytest.fixture(scope="module")
def undated(sample_folder: Path, quick_changes: list[str], open_shop: Open) -> Shop:
    """The same with the last of each shopper left out, as a shop without dates is split."""
    return open_shop(sample_folder, read_settings(changes=[*quick_changes, "data.split=leave_one_out"]))


@pytest.fixture
def planted(monkeypatch: pytest.MonkeyPatch) -> FeatureGroup:
    """A group that counts takings up to and including the request's time, beside one that counts those before."""
    registry.feature_groups()  # ours are there before
    monkeypatch.setattr(registry, "_GROUPS", dict(registry._GROUPS))
    return register_group(
        FeatureGroup(
            name="planted",
            reads="too much",
            features=(Feature("takings_with_target", "count", "a leak"), Feature("takings_before", "count", "none")),
            compute=counted,
            searches=False,
        )
    )


def counted(shortlists: Shortlists, facts: ShopFacts) -> Values:
    rows, now = np.maximum(shortlists.rows, 0), np.broadcast_to(shortlists.now[:, None], shortlists.rows.shape)
    return {
        "takings_with_target": facts.taken.before(rows, now + 1).astype(np.float64),
        "takings_before": facts.taken.before(rows, now).astype(np.float64),
    }


def without_dates(state: ReleaseState) -> ReleaseState:
    return replace(state, user_store=replace(state.user_store, dated=False))


def names_of(state: ReleaseState, *, temporal: bool = True) -> list[str]:
    """The features that a run fits the order of recommendations by."""
    return feature_names(state.facts, FitCase(order="recommend", temporal=temporal, unseen=state.filter_seen))


def test_no_feature_of_ours_knows_the_future(engine: Engine, shop: Shop) -> None:
    state, said = engine.state, list[str]()
    assert {"takings_7d", "conversion", "own_taken", "overdue", "hour"} <= set(names_of(state))
    assert leaking_features(state, shop, names_of(state)) == {}
    require_no_leak(state, shop, names_of(state), say=said.append, most=5)
    assert said == [f"second stage: {len(names_of(state))} features of 5 requests know nothing of later events"]


def test_none_does_where_times_only_put_events_in_order(engine: Engine, undated: Shop) -> None:
    state = without_dates(engine.state)
    assert undated.events is not None
    assert undated.events.kind == "leave_one_out"
    names = names_of(state, temporal=False)
    assert "takings" in names
    assert "takings_7d" not in names
    assert leaking_features(state, undated, names) == {}


@pytest.mark.usefixtures("planted")
def test_a_count_that_includes_the_target_is_found_and_named(engine: Engine, shop: Shop) -> None:
    state = replace(engine.state)  # reads the planted group, and leaves the engine without it
    assert "takings_before" in names_of(state)
    assert list(leaking_features(state, shop, names_of(state))) == ["takings_with_target"]
    with pytest.raises(BadConfig, match="the feature takings_with_target knows what happened at or after") as refused:
        require_no_leak(state, shop, names_of(state), say=lambda _: None)
    assert "\n" not in str(refused.value)


@pytest.mark.usefixtures("planted")
def test_where_times_are_positions_a_count_of_what_others_did_later_is_a_leak(engine: Engine, undated: Shop) -> None:
    state = without_dates(engine.state)
    names = names_of(state, temporal=False)
    assert {"takings_with_target", "takings_before"} == set(leaking_features(state, undated, names))


def test_a_source_that_counts_what_came_later_is_found(
    engine: Engine, shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sources, "_SPECS", {spec.name: spec for spec in sources.source_specs()})
    register_source(SourceSpec(name="sold_ever", about="a leak", make=sold_ever, counts_for=lambda case: True))
    state = engine.state
    parts = OpenedParts(state.version, state.user_store, state.settings.targets, None, state.settings.language)
    state = replace(state, retriever=replace(state.retriever, sources=Sources(parts)))
    names = ["popularity_7d_score", "newness_score", "looked_at_rank", "sold_ever_score", "takings_7d"]
    assert set(leaking_features(state, shop, names, most=40)) == {"sold_ever_score"}


def sold_ever(parts: ReleaseParts) -> RecentPopularity:
    """What sold at any time, whatever the request's day."""
    rows = parts.timeline.item[parts.timeline.item >= 0].astype(np.int64)
    return RecentPopularity(np.zeros(len(rows), np.int64), rows, 10**6)


def test_a_shop_without_events_has_nothing_to_check(engine: Engine, shop: Shop) -> None:
    bare = replace(shop, data=replace(shop.data, events=None), events=None)
    assert leaking_features(engine.state, bare, names_of(engine.state)) == {}
    require_no_leak(engine.state, bare, [], say=lambda line: pytest.fail(line))
