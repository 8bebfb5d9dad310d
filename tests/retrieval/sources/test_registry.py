"""Declared sources: a name is one source's alone, and each order is weighed over those that count for it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from retrieval.errors import BadConfig
from retrieval.sources import registry
from retrieval.sources.behaviour import TakenBefore
from retrieval.sources.registry import FitCase, SourceSpec, register_source, source_specs, sources_for

OF_USERS = {"co_occurrence", "right_after", "looked_at", "in_cart"}
OF_REPEATS = {"own_frequency", "taken_before"}
OF_LATE = {"popularity_7d", "popularity_30d", "together_14d"}


@pytest.fixture
def own_registry(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a test registers is forgotten after it."""
    monkeypatch.setattr(registry, "_SPECS", {spec.name: spec for spec in source_specs()})


def spec_of(name: str) -> SourceSpec:
    return SourceSpec(
        name=name, about="a test", make=lambda parts: TakenBefore(), counts_for=lambda case: case.order == "search"
    )


@pytest.mark.parametrize(
    ("case", "wanted"),
    [
        (FitCase(order="recommend"), OF_USERS | OF_REPEATS),
        (FitCase(order="recommend", temporal=True), OF_USERS | OF_REPEATS | OF_LATE),
        (FitCase(order="recommend", unseen=True), OF_USERS | {"price_fit"}),
        (FitCase(order="recommend", temporal=True, unseen=True), OF_USERS | OF_LATE | {"newness", "price_fit"}),
        (FitCase(order="recommend_unseen", unseen=True), OF_USERS | {"price_fit"}),
        (FitCase(order="recommend_unseen", temporal=True, unseen=True), OF_USERS | OF_LATE | {"newness", "price_fit"}),
        (FitCase(order="search"), {"words"}),
        (FitCase(order="search", temporal=True), {"words"}),
    ],
)
def test_each_order_is_weighed_over_the_sources_that_say_so(case: FitCase, wanted: set[str]) -> None:
    found = sources_for(case)
    assert set(found) == wanted
    assert len(found) == len(set(found))


def test_what_a_query_names_is_never_weighed() -> None:
    assert "exact" in {spec.name for spec in source_specs()}
    orders = ("recommend", "recommend_unseen", "search")
    cases = [FitCase(order=order, temporal=True, unseen=unseen) for order in orders for unseen in (False, True)]
    assert not any("exact" in sources_for(case) for case in cases)


@pytest.mark.usefixtures("own_registry")
def test_a_second_source_under_one_name_is_refused_and_the_first_stays() -> None:
    first = register_source(spec_of("mine"))
    with pytest.raises(BadConfig, match="named mine is already registered"):
        register_source(spec_of("mine"))
    with pytest.raises(BadConfig, match="named words"):
        register_source(replace(first, name="words"))
    assert register_source(first) is first
    assert [spec for spec in source_specs() if spec.name == "mine"] == [first]


@pytest.mark.usefixtures("own_registry")
def test_a_source_of_another_package_is_weighed_after_the_others() -> None:
    register_source(spec_of("mine"))
    assert sources_for(FitCase(order="search")) == ("words", "mine")
    assert "mine" not in sources_for(FitCase(order="recommend"))


def test_every_source_says_what_it_scores() -> None:
    assert all(spec.about for spec in source_specs())
