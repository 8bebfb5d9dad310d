"""Stage 9: items moved and placed as the shop's merchandising rules say."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from retrieval.topk import Mask, Rows
from serving.answering.batch import Batch, Order
from serving.answering.deadline import Deadline
from serving.answering.stages.arrange import arrange
from serving.rules.boosts import relevance, reordered, total
from serving.rules.effects import RuleEffects
from serving.rules.placement import Constraints, Placed, chosen

if TYPE_CHECKING:
    from serving.answering.release_state import ReleaseState
    from serving.rules.compiled import ActiveRules


def apply_rules(state: ReleaseState, batch: Batch, deadline: Deadline) -> Batch:
    """Reads `order`, `candidates` and `rules`, writes `order` and `rule_effects`: boosted and buried items move over
    the whole shortlist, and the first k places are filled as pins, slots, floors and caps have it.

    What a query names by its id or code stays in front. Scores stay with their items, so that they may rise from place
    to place. Where caps let fewer than k items through, the order holds those alone.
    """
    rules, order = batch.rules, batch.order
    if rules is None or not rules.reorders:
        return batch
    assert order is not None, "apply_rules comes after arrange"
    before = order.rows
    added, each = total(before, rules.boosts)
    relevances = relevance(before, order.scores) + added
    moved = reordered(relevances, exact_places(batch, order))
    order, relevances = order.permuted(moved), np.take_along_axis(relevances, moved, axis=1)
    constraints, places = constraints_of(state, batch, rules), [Placed()] * len(batch)
    if rules.places or constraints.groups is not None:
        order, placed, places = _placed(batch, order, constraints)
        relevances = np.take_along_axis(relevances, placed, axis=1)
    shifts = dict(zip((one.rule.name for one in rules.boosts), each, strict=True))
    kinds = {one.rule.name: one.rule.kind for one in rules.rules}
    effects = RuleEffects(before, order.rows, relevances, shifts, places, kinds)
    return batch.having(order=order, rule_effects=effects)


def without_rules(state: ReleaseState, batch: Batch, deadline: Deadline) -> Batch | None:
    """The batch in its order before the rules; None where no rule moves or places items."""
    rules = batch.rules
    if rules is None or not rules.reorders:
        return None
    return arrange(state, batch.having(rules=None), deadline).having(rules=rules)


def exact_places(batch: Batch, order: Order) -> Mask:
    """Which places of an order hold what the query names by its id or code, bool [n, k]."""
    return np.take_along_axis(batch.candidates.exact, order.places, axis=1)


def constraints_of(state: ReleaseState, batch: Batch, rules: ActiveRules) -> Constraints:
    """The rules that place items, and the groups of which one item each is answered."""
    groups = state.version.groups if batch.one_per_group else None
    return rules.constraints if groups is None else rules.constraints._replace(groups=groups.codes)


def _placed(batch: Batch, order: Order, constraints: Constraints) -> tuple[Order, Rows, list[Placed]]:
    """The order with its first places filled anew, the places before, int64 [n, k], and what put items there."""
    exact, width = exact_places(batch, order), order.rows.shape[1]
    permutation, effects = np.tile(np.arange(width), (len(batch), 1)), list[Placed]()
    kept = np.ones(order.rows.shape, bool)
    for line, rows in enumerate(order.rows):
        retrieved = np.argsort(order.retrieval_places[line], kind="stable")
        first, placement = chosen(constraints, rows, exact[line], batch.k, retrieved)
        rest = np.setdiff1d(permutation[line], first, assume_unique=True)
        permutation[line] = [*first, *rest]
        kept[line, len(first) :] = len(first) >= batch.k
        effects.append(placement.effects)
    found = order.permuted(permutation)
    return found._replace(rows=np.where(kept, found.rows, -1)), permutation, effects
