"""Features as of the request's time: ours know nothing later, and one that counts the target is found by its name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ranking.features import registry
from ranking.features.facts import ShopFacts
from ranking.features.registry import Feature, FeatureGroup, Values, features_of, register_group
from ranking.features.shortlists import Shortlists
from retrieval.errors import BadConfig
from serving.answering.release_state import ReleaseState
from serving.engine import Engine
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


def names_of(state: ReleaseState) -> list[str]:
    return list(features_of(state.facts, search=False))


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
    assert "takings" in names_of(state)
    assert "takings_7d" not in names_of(state)
    assert leaking_features(state, undated, names_of(state)) == {}


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
    assert {"takings_with_target", "takings_before"} == set(leaking_features(state, undated, names_of(state)))


def test_a_shop_without_events_has_nothing_to_check(engine: Engine, shop: Shop) -> None:
    bare = replace(shop, data=replace(shop.data, events=None), events=None)
    assert leaking_features(engine.state, bare, names_of(engine.state)) == {}
    require_no_leak(engine.state, bare, [], say=lambda line: pytest.fail(line))
