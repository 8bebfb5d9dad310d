"""Why a candidate is not among the k answered ones: another stands before it, a stage left it out or moved it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from retrieval.topk import Rows, Scores
from serving.answering import pipeline
from serving.answering.batch import Batch, Order
from serving.answering.explaining.contributions import contributions
from serving.answering.explaining.explain import STAGE_NAMES, explain, places_of, source_scores
from serving.explanation import Reason
from serving.request import CROSS_ENCODER, FEATURES, Request
from serving.why_not.result import ANSWERED, Finding, Fix, finding

if TYPE_CHECKING:
    from serving.answering.release_state import ReleaseState

LAST_ORDERING = pipeline.STAGES[pipeline.STAGES.index(explain) - 1]
SCORING = ("retrieval", FEATURES, CROSS_ENCODER)  # stages that order by a score of their own
UNDONE: Mapping[str, Mapping[str, object]] = {
    FEATURES: {"rerank": False},
    CROSS_ENCODER: {"rerank": False},
    "groups": {"one_per_group": False},
    "diversity": {"diversity": 0.0},
}  # what a request asks for to be answered without a stage


def place_in(ordered: Batch, row: int) -> int | None:
    """Where an item stands in the answer of one request, from 1; None where it does not."""
    assert ordered.order is not None, "the stages until LAST_ORDERING have run"
    found = np.flatnonzero(ordered.order.rows[0] == row)
    return int(found[0]) + 1 if len(found) else None


def in_order(state: ReleaseState, request: Request, ordered: Batch, row: int) -> Finding:
    """Why a candidate of a request does not come among the first k, and what would bring it there."""
    places, place, k = places_of(ordered.trail, 0, row), place_in(ordered, row), request.k
    if place is None:
        return _dropped(state, ordered, row, places)
    if place <= k:
        return finding(ANSWERED, Reason("why_not.answered", {"place": str(place)}), places=places)
    within = [at for at, here in enumerate(places.values()) if here <= k]
    stage = list(places)[within[-1] + 1] if within else _deciding(ordered, row)
    undo = [Fix(UNDONE[stage])] if within and stage in UNDONE else []
    longer = Fix({"k": place}, None if request.diversity else place)
    fixes = [longer, *undo] if place <= 2 * k else [*undo, longer]
    scores, rows = _scores_after(ordered, stage), _rows_after(ordered, stage)
    if stage == "rules" and ordered.rule_effects is not None:
        names = ", ".join(effect.rule for effect in ordered.rule_effects.of(0, row)) or "-"
        told = {"rules": names, "before": str(list(places.values())[within[-1]]), "place": str(places[stage])}
        return finding(stage, Reason("why_not.moved_by_rules", told), *fixes, places=places)
    if scores is None:
        told = {"stage": stage, "before": str(list(places.values())[within[-1]]), "place": str(places[stage])}
        return finding(stage, Reason("why_not.moved", told), *fixes, places=places)
    own, last = float(scores[places[stage] - 1]), float(scores[k - 1])
    told = {"stage": stage, "place": str(places[stage]), "score": f"{own:.3f}", "k": str(k), "last": f"{last:.3f}"}
    return finding(
        stage,
        Reason("why_not.ordered", told),
        *fixes,
        places=places,
        short_of=last - own,
        terms=_terms(state, ordered, stage, row, int(rows[k - 1])),
    )


def _deciding(ordered: Batch, row: int) -> str:
    """The last stage that gave an item a score of its own."""
    (candidate,) = np.flatnonzero(ordered.candidates.hits.rows[0] == row)[:1]
    if ordered.ranking is not None and ordered.ranking.read(0, np.array([candidate]))[0]:
        return CROSS_ENCODER
    return FEATURES if ordered.scored is not None else "retrieval"


def _dropped(state: ReleaseState, ordered: Batch, row: int, places: dict[str, int]) -> Finding:
    """Of a candidate that a stage left out."""
    stages = [STAGE_NAMES.get(stage, stage) for stage, _ in ordered.trail]
    stage, groups = next(stage for stage in stages if stage not in places), state.version.groups
    held = None if ordered.rule_effects is None else ordered.rule_effects.places[0].held.get(row)
    if stage == "rules" and held is not None:
        return finding(stage, Reason("why_not.hidden_by_rules", {"rules": held}), places=places)
    if stage != "groups" or groups is None:
        return finding(stage, Reason("why_not.dropped", {"stage": stage}), places=places)
    rows = _rows_after(ordered, stage)
    (variant,) = state.version.ids_of(rows[np.isin(rows, groups.variants(row))][:1])
    reason = Reason("why_not.grouped", {"item": variant})
    return finding(stage, reason, Fix(UNDONE[stage]), places=places)


def _rows_after(ordered: Batch, stage: str) -> Rows:
    """What stands where after a stage, int64 [k]."""
    rows: Rows = next(rows[0] for name, rows in ordered.trail if STAGE_NAMES.get(name, name) == stage)
    return rows


def _scores_after(ordered: Batch, stage: str) -> Scores | None:
    """The scores that a stage ordered by, float32 [k] in the order that it left; None where it has none."""
    hits, scored, ranking = ordered.candidates.hits, ordered.scored, ordered.ranking
    found: Scores | None = None
    if stage == CROSS_ENCODER and ranking is not None:
        found = ranking.logits[0]
    elif stage == FEATURES:
        found = hits.scores[0]
    elif stage == "retrieval":
        found = (hits if scored is None else scored.before(hits)).scores[0]
    return found


def _terms(state: ReleaseState, ordered: Batch, stage: str, row: int, rival: int) -> dict[str, float]:
    """How much less each feature or source adds to an item's score than to a rival's, the largest first; empty where a
    score has no such parts."""
    rows = ordered.candidates.hits.rows[0]
    places = np.array([np.flatnonzero(rows == one)[0] for one in (rival, row)])
    if stage == "retrieval":
        before = [source_scores(state, ordered, 0, int(place)) for place in places]
        theirs, own = ({name: given.share for name, given in one.items()} for one in before)
    else:
        read = ordered if stage == CROSS_ENCODER else ordered.having(ranking=None)
        candidates = Order(rows[None], ordered.candidates.hits.scores, np.arange(len(rows))[None], rows[None])
        theirs, own = contributions(state, read, candidates, 0, places)
    less = {name: theirs.get(name, 0.0) - own.get(name, 0.0) for name in {**theirs, **own}}
    return {name: value for name, value in sorted(less.items(), key=lambda one: -one[1]) if value}
