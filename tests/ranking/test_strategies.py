"""Declared ways of reranking: the steps that each plans, and what a ranker needs for it."""

from __future__ import annotations

from dataclasses import replace
from importlib.metadata import EntryPoint

import pytest

from ranking import strategies as registry
from ranking.strategies import Depths, PlannedStep, Strategy, register_strategy, strategy_named
from retrieval.errors import BadConfig

DEPTHS = Depths(first=30, second_stage=10, shortlist=100)
EXTERNAL = Strategy(
    "everything", "the full model over the whole shortlist", lambda d: (PlannedStep("full", d.shortlist),)
)


@pytest.fixture
def own_registry(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a test registers is forgotten after it."""
    monkeypatch.setattr(registry, "_STRATEGIES", dict(registry._STRATEGIES))


@pytest.mark.parametrize(
    ("name", "steps", "distilled"),
    [
        ("full", [("full", 30)], None),
        ("shallow", [("shallow", 30)], "shallow"),
        ("cascade", [("shallow", 30), ("full", 10)], "shallow"),
        ("late", [("late", 100)], "late"),
        ("late_then_full", [("late", 100), ("full", 30)], "late"),
    ],
)
def test_each_strategy_plans_its_steps_and_names_what_is_distilled(
    name: str, steps: list[tuple[str, int]], distilled: str | None
) -> None:
    strategy = strategy_named(name)
    assert [tuple(step) for step in strategy.plan(DEPTHS)] == steps
    assert strategy.distilled == distilled
    assert strategy.about


def test_a_later_step_never_reads_more_than_the_first() -> None:
    first, then = strategy_named("cascade").plan(DEPTHS._replace(first=5))
    assert (first.depth, then.depth) == (5, 5)


def test_an_unknown_strategy_is_refused_with_those_there_are() -> None:
    with pytest.raises(
        BadConfig, match=r"ranking\.strategy=none is not known; take one of full, shallow, cascade, late"
    ):
        strategy_named("none")


@pytest.mark.usefixtures("own_registry")
def test_a_second_strategy_under_one_name_is_refused_and_the_first_stays() -> None:
    assert register_strategy(EXTERNAL) is EXTERNAL
    assert register_strategy(EXTERNAL) is EXTERNAL
    for name in ("everything", "full"):
        with pytest.raises(BadConfig, match=f"named {name} is already registered"):
            register_strategy(replace(EXTERNAL, name=name, about="another"))
    assert strategy_named("everything") is EXTERNAL


@pytest.mark.usefixtures("own_registry")
def test_a_strategy_of_another_package_is_found_by_its_entry_point(monkeypatch: pytest.MonkeyPatch) -> None:
    class Declared(EntryPoint):
        def load(self) -> object:
            return register_strategy(EXTERNAL)

    def declared(*, group: str) -> list[EntryPoint]:
        assert group == "shortlist.strategies"
        return [Declared("everything", "another.package", group)]

    monkeypatch.setattr(registry, "entry_points", declared)
    assert strategy_named("everything") is EXTERNAL
