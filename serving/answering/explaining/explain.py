"""Stage 10: why each hit stands where it does, where the request asks for it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from retrieval.sources.fusion import TOWERS, Fusion
from retrieval.topk import Rows, Scores
from serving.answering.batch import Batch, Explained, Order
from serving.answering.deadline import Deadline
from serving.answering.explaining.contributions import contributions
from serving.answering.explaining.leave_one_out import leave_one_out
from serving.answering.explaining.reasons import events_by_item, reasons_of
from serving.explanation import EventCause, Explanation, SourceScore, WordCause
from serving.request import CROSS_ENCODER, FEATURES

if TYPE_CHECKING:
    from serving.answering.release_state import ReleaseState

STAGE_NAMES = {
    "retrieve": "retrieval", "score": FEATURES, "rank": CROSS_ENCODER, "arrange": "groups", "apply_rules": "rules",
    "diversify": "diversity",
}  # fmt: skip


def explain(state: ReleaseState, batch: Batch, deadline: Deadline) -> Batch:
    """Reads what all stages before wrote, and their `trail`; writes `explained`, where the request asks for it."""
    order = batch.order
    assert order is not None, "explain comes after arrange"
    if not batch.explain:
        return batch
    return batch.having(explained=[_explained(state, batch, order, line) for line in range(len(batch))])


def unexplained(state: ReleaseState, batch: Batch, deadline: Deadline) -> Batch | None:
    """The batch without explanations; None where none were asked for."""
    return batch.having(explain=False) if batch.explain else None


def places_of(trail: Sequence[tuple[str, Rows]], line: int, row: int) -> dict[str, int]:
    """The places from 1 of an item of a request after each stage that left it one, by the name of the stage."""
    found = {}
    for stage, rows in trail:
        at = np.flatnonzero(rows[line] == row)
        if len(at):
            found[STAGE_NAMES.get(stage, stage)] = int(at[0]) + 1
    return found


def _explained(state: ReleaseState, batch: Batch, order: Order, line: int) -> list[Explained]:
    shown = order.shown(line, batch.k)
    effects, added = leave_one_out(state, batch, line, shown), contributions(state, batch, order, line, shown)
    events, rows = events_by_item(state, batch, line), order.rows[line, shown].tolist()
    of_interest = np.unique(np.concatenate([effects.items, batch.users.given.select(np.array([line])).rows]))
    titles = state.version.values_at("title", of_interest).to_pylist()
    named = dict(zip(of_interest.tolist(), titles, strict=True))
    reasons = reasons_of(state, batch, line, shown, effects, named, events, added)
    ids = state.version.ids_of(effects.items)
    found = []
    for at, row in enumerate(rows):
        causes = [
            EventCause(item, named[of], events[of].kind, events[of].time, effect, logit)
            for item, of, effect, logit in zip(
                ids, effects.items.tolist(), *_numbers(effects.of_items, effects.logits_of_items, at), strict=True
            )
        ]
        words = [
            WordCause(word, effect, logit)
            for word, effect, logit in zip(
                effects.words, *_numbers(effects.of_words, effects.logits_of_words, at), strict=True
            )
        ]
        explanation = Explanation(
            places_of(batch.trail, line, row),
            source_scores(state, batch, line, int(order.places[line, shown[at]])),
            tuple(sorted(causes, key=lambda cause: -abs(cause.effect))),
            tuple(sorted(words, key=lambda cause: -abs(cause.effect))),
            () if batch.rule_effects is None else batch.rule_effects.of(line, row),
            reasons[at],
        )
        found.append(Explained(added[at], explanation))
    return found


def source_scores(state: ReleaseState, batch: Batch, line: int, place: int) -> dict[str, SourceScore]:
    """What each source that counts and knows of a candidate of a request, by its place from 0, gives it."""
    hits, proposed, order = batch.candidates.hits, batch.candidates.proposed, batch.task.order
    fusion = Fusion.of_towers() if order is None else state.retriever.fusion(order)
    present = hits.rows[line] >= 0
    found = {}
    for name, part in (hits.parts or {TOWERS: hits.scores}).items():
        scores, weight = part[line], fusion.weights.get(name, 0.0)
        score = float(scores[place])
        above = int((scores[present] > scores[place]).sum())
        by = name in proposed and bool(proposed[name][line, place])
        if score or by:
            found[name] = SourceScore(score, weight, weight * score, above + 1, by)
    return found


def _numbers(scores: Scores, logits: Scores | None, at: int) -> tuple[list[float], list[float | None]]:
    """The effects on one hit: on its score, and on its logit where the cross-encoder read it."""
    own = scores[at].tolist()
    if logits is None:
        return own, [None] * len(own)
    return own, [None if np.isnan(value) else value for value in logits[at].tolist()]
