"""Stage 10: unlike items next to each other, as far as the request asks for it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ranking.ordering.diversity import diversified
from retrieval.topk import Mask, Rows
from serving.answering.batch import Batch
from serving.answering.deadline import Deadline
from serving.answering.stages.apply_rules import constraints_of, exact_places
from serving.rules.effects import RuleEffects
from serving.rules.placement import NONE, Constraints, Placed, Placement

if TYPE_CHECKING:
    from serving.answering.release_state import ReleaseState


def diversify(state: ReleaseState, batch: Batch, deadline: Deadline) -> Batch:
    """Reads `order`, `candidates`, `rules` and `rule_effects`, writes the first k places of `order`.

    Items are as unlike as the vectors of the item tower say. What a query names by its id or code stays in front.
    Scores stay with their items, so that they may rise from place to place. What rules place or cap stays so; an answer
    that they leave no other order keeps its own.
    """
    order = batch.order
    assert order is not None, "diversify comes after arrange"
    if not batch.diversity:
        return batch
    vectors = state.version.vectors_at(np.maximum(order.rows, 0).ravel()).reshape(*order.rows.shape, -1)
    effects, exact = batch.rule_effects, exact_places(batch, order)
    scores = np.where(order.rows >= 0, order.scores if effects is None else effects.relevance, -np.inf)
    pick, rules = None, batch.rules
    if effects is not None and rules is not None:
        pick = _Picks(constraints_of(state, batch, rules), order.rows, exact, batch.k)
    new = diversified(
        batch.diversify_by, scores.astype(np.float32), vectors, batch.k, batch.diversity, pinned=exact, pick=pick
    )
    if pick is not None and effects is not None:
        new[pick.stuck] = np.arange(new.shape[1])
        effects = replace(effects, places=pick.places(effects))
    return batch.having(order=order.permuted(new), rule_effects=effects)


class _Picks:
    """Picks the best item of each place that rules let stand there; `stuck` bool [n] are the answers that end early."""

    def __init__(self, rules: Constraints, rows: Rows, exact: Mask, k: int) -> None:
        self._lines = [Placement(rules, own, first, k) for own, first in zip(rows, exact, strict=True)]
        self._sizes = np.minimum((rows >= 0).sum(axis=1), k)
        self.stuck = np.zeros(len(rows), bool)

    def __call__(self, place: int, values: NDArray[np.float64]) -> NDArray[np.int64]:
        ranked = np.argsort(-values, axis=1, kind="stable")
        found = ranked[:, 0].copy()
        for line, placement in enumerate(self._lines):
            if place < self._sizes[line] and not self.stuck[line]:
                found[line] = at = placement.pick(place, ranked[line].tolist())
                self.stuck[line] = at == NONE
        return found

    def places(self, before: RuleEffects) -> list[Placed]:
        """What put items at their places, of answers that end early as it was before."""
        lines = zip(self.stuck.tolist(), before.places, self._lines, strict=True)
        return [own if stuck else placement.effects for stuck, own, placement in lines]


def as_arranged(state: ReleaseState, batch: Batch, deadline: Deadline) -> Batch | None:
    """The batch in the order that it has; None where none was asked to be unlike another."""
    return batch if batch.diversity else None
