"""Strategies of reranking, by name: which models of a ranker read how many places, one after the other.

A strategy is declared once and registered; whatever trains, serves or compares strategies reads this registry.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import entry_points
from typing import NamedTuple

from retrieval.errors import BadConfig

FULL, SHALLOW, LATE = "full", "shallow", "late"  # the models of a ranker; all but the full one lie in folders so named
GROUP = "shortlist.strategies"  # of entry points


class PlannedStep(NamedTuple):
    """One model of a ranker, and the places of a shortlist that it reads."""

    model: str  # one of FULL, SHALLOW, LATE
    depth: int


class Depths(NamedTuple):
    """The places that a shop's settings have reranked."""

    first: int  # ranking.depth
    second_stage: int  # ranking.second_stage_depth
    shortlist: int  # all candidates


@dataclass(frozen=True)
class Strategy:
    """A way of reranking: `plan` gives its steps; each orders the head of what the step before it ordered."""

    name: str
    about: str
    plan: Callable[[Depths], tuple[PlannedStep, ...]]

    @property
    def distilled(self) -> str | None:
        """The model beside the full one that a ranker needs for it, distilled from that one; None: no other."""
        models = (step.model for step in self.plan(Depths(1, 1, 1)))
        return next((model for model in models if model != FULL), None)


_STRATEGIES: dict[str, Strategy] = {}


def register_strategy(strategy: Strategy) -> Strategy:
    """Makes a strategy known under its name. Raises BadConfig where another has it."""
    if _STRATEGIES.setdefault(strategy.name, strategy) is not strategy:
        raise BadConfig(f"a strategy of reranking named {strategy.name} is already registered; give it another name")
    return strategy


def strategy_named(name: str) -> Strategy:
    """A registered strategy; those of other packages are found under the entry-point group `shortlist.strategies`.
    Raises BadConfig, with the names there are, for any other."""
    if name not in _STRATEGIES:
        for entry in entry_points(group=GROUP):
            entry.load()
    if name not in _STRATEGIES:
        raise BadConfig(f"ranking.strategy={name} is not known; take one of {', '.join(_STRATEGIES)}")
    return _STRATEGIES[name]


for _name, _about, _plan in (
    ("full", "the full model", lambda depths: (PlannedStep(FULL, depths.first),)),
    ("shallow", "a model of fewer layers, distilled from the full one", lambda d: (PlannedStep(SHALLOW, d.first),)),
    (
        "cascade",
        "the shallow model, then the full one over the best of what that ordered",
        lambda d: (PlannedStep(SHALLOW, d.first), PlannedStep(FULL, min(d.second_stage, d.first))),
    ),
    # late interaction costs next to nothing a place, so that it reads the whole shortlist
    ("late", "late interaction over the whole shortlist", lambda d: (PlannedStep(LATE, d.shortlist),)),
    (
        "late_then_full",
        "late interaction, then the full model over its best places",
        lambda d: (PlannedStep(LATE, d.shortlist), PlannedStep(FULL, d.first)),
    ),
):
    register_strategy(Strategy(_name, _about, _plan))
