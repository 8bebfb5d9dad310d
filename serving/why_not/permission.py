"""What may not be answered: a filter leaves it out, the shopper took it before, or it came with the request."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from indexing.version.filter_grammar import Condition, text_of
from indexing.version.filters import lists_of, parse_filters
from serving.answering.batch import Batch
from serving.explanation import Reason
from serving.request import Request
from serving.why_not.result import Finding, Fix, finding

if TYPE_CHECKING:
    from serving.answering.release_state import ReleaseState


def not_permitted(state: ReleaseState, request: Request, permitted: Batch, row: int) -> Finding | None:
    """Why an item may not be answered to a request; None where it may."""
    rules = permitted.rules
    if rules is not None and (names := rules.disallowing(row)):
        return finding("rules", Reason("why_not.hidden_by_rules", {"rules": ", ".join(names)}))
    if permitted.allowed is not None and not permitted.allowed[row]:
        return _filtered(state, request, row)
    if permitted.exclude is None or row not in permitted.exclude.rows:
        return None
    task, users = permitted.task, permitted.users
    if task.excludes_given and row in users.given.rows:
        return finding("excluded", Reason("why_not.given"), *_without(state, request, row))
    if rules is not None and row in users.taken.rows and (names := rules.keeping_bought(row)):
        return finding("rules", Reason("why_not.hidden_by_rules", {"rules": ", ".join(names)}))
    if task.excludes_taken and row in users.taken.rows:
        return finding("excluded", Reason("why_not.taken"), Fix({"filter_seen": False}))
    if replaced := _replaces(state, permitted, row):
        return finding("excluded", Reason("why_not.substitute", {"title": replaced}))
    return finding("excluded", Reason("why_not.variant_given"), Fix({"one_per_group": False}))


def _replaces(state: ReleaseState, permitted: Batch, row: int) -> str:
    """The title of the first item of a cart that another stands in for; empty where it stands in for none."""
    matrix, given = state.substitutes, permitted.users.given.rows
    if permitted.task.name != "complete_cart" or matrix is None or row >= matrix.shape[0]:
        return ""
    known = given[given < matrix.shape[0]]
    replaced = known[matrix[:, [row]].toarray()[known, 0] > 0]
    return state.titles(state.version.ids_of(replaced[:1]))[0] if len(replaced) else ""


def _without(state: ReleaseState, request: Request, row: int) -> list[Fix]:
    """The cart without an item: where it is not the only one."""
    others = [one.item_id for one in request.events]
    rows = state.version.rows_of(others).tolist()
    left = [item for item, other in zip(others, rows, strict=True) if other != row]
    return [Fix({"history": left})] if left else []


def _filtered(state: ReleaseState, request: Request, row: int) -> Finding:
    """The list of conditions that leaves fewest to be dropped, the first that fails, and the filters without those."""
    given, item = lists_of(request.filters), state.version.items_at(np.array([row]))
    failing = [[not parse_filters([one], item.schema).mask(item)[0] for one in conditions] for conditions in given]
    nearest = min(range(len(given)), key=lambda at: sum(failing[at]))
    conditions = given[nearest]
    name, operator, value = conditions[failing[nearest].index(True)]
    kept: list[Condition] = [one for one, fails in zip(conditions, failing[nearest], strict=True) if not fails]
    told = {"condition": text_of([[(name, operator, value)]]), "column": name, "value": str(item[name][0].as_py())}
    return finding("filtered", Reason("why_not.filtered", told), Fix({"filters": text_of([kept]) if kept else None}))
