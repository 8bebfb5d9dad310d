"""Finds the first stage that loses an item, and the smallest change of the request that brings it in."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from serving.answering import pipeline
from serving.answering.stages.permit import permit
from serving.answering.stages.retrieve import retrieve
from serving.answering.stages.score import score
from serving.answering.tasks import task_of
from serving.explanation import Reason
from serving.request import Request
from serving.why_not.candidates import no_candidate
from serving.why_not.ordering import LAST_ORDERING, in_order
from serving.why_not.permission import not_permitted
from serving.why_not.result import ANSWERED, Change, Finding, Fix, WhyNot

if TYPE_CHECKING:
    from serving.answering.release_state import ReleaseState

CHANGES = 4  # of a request, one after the other, that are tried


def why_not(state: ReleaseState, request: Request, item_id: str) -> WhyNot:
    """Why an item is not among the k answered ones; see WhyNot. Raises BadRequest for filters that the items do not
    have."""
    row = int(state.version.rows_of([item_id])[0])
    if row < 0:
        return WhyNot(item_id=item_id, stage="unknown", reason=Reason("why_not.unknown", {"item": item_id}))
    answerable, title = state.version.answerable(), str(state.version.values_at("title", np.array([row]))[0])
    if answerable is not None and not answerable[row]:
        return WhyNot(item_id=item_id, stage="deleted", reason=Reason("why_not.deleted"), title=title)
    found = look(state, request, row)
    changes = (_followed(state, request, row, fix) for fix in found.fixes)
    return replace(found.why_not, item_id=item_id, title=title, change=next(filter(None, changes), None))


def look(state: ReleaseState, request: Request, row: int) -> Finding:
    """What first stands between an item and the answer of a request."""
    batch = pipeline.batch_of(state, task_of(state, request), [request]).having(explain=True)  # leaves a trail
    permitted = pipeline.run(state, batch, until=permit)
    found = not_permitted(state, request, permitted, row)
    if found is not None:
        return found
    retrieved = pipeline.run(state, permitted, since=retrieve, until=retrieve)
    if row not in retrieved.candidates.hits.rows:
        return no_candidate(state, retrieved, row)
    return in_order(state, request, pipeline.run(state, retrieved, since=score, until=LAST_ORDERING), row)


def _followed(state: ReleaseState, request: Request, row: int, fix: Fix) -> Change | None:
    """The change that a fix begins and that brings the item in, with what else is then in the way; None for none."""
    fields: dict[str, object] = {}
    for _ in range(CHANGES):
        fields |= fix.fields
        if fix.place is not None:
            return Change(fields, fix.place)
        found = look(state, replace(request, **fields), row)  # type: ignore[arg-type]
        if found.why_not.stage == ANSWERED:
            return Change(fields, list(found.why_not.places.values())[-1])
        if not found.fixes:
            return None
        fix = found.fixes[0]
    return None
