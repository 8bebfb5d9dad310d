"""Stage 4: what may be answered."""

from __future__ import annotations

from typing import TYPE_CHECKING

from retrieval.data.time_units import SECOND
from retrieval.sources.carts import related_rows
from retrieval.topk import CSR
from serving.answering.batch import Batch
from serving.answering.deadline import Deadline
from serving.answering.user_context import UserContexts
from serving.rules.bought import not_again
from serving.rules.compiled import ActiveRules

if TYPE_CHECKING:
    from serving.answering.release_state import ReleaseState


def permit(state: ReleaseState, batch: Batch, deadline: Deadline) -> Batch:
    """Reads `users`, `filters`, `rules` and the task, writes `exclude` and `allowed`. Raises BadRequest for filters
    that the items do not have."""
    allowed = state.filter_masks.of(batch.filters)
    may = None if batch.rules is None else batch.rules.allowed
    if may is not None:
        allowed = may if allowed is None else allowed & may
    return batch.having(exclude=_excluded(state, batch), allowed=allowed)


def _excluded(state: ReleaseState, batch: Batch) -> CSR | None:
    """The rows that each request must not be answered with; None where there are none. What came with the request
    stands for its group, and what could stand in for an item of a cart does not complete it."""
    task, users, groups = batch.task, batch.users, state.version.groups if batch.one_per_group else None
    given = users.given if groups is None or not task.excludes_given else groups.with_variants(users.given)
    if batch.rules is not None and batch.rules.bought:
        taken = [_bought_lately(state, users, batch.rules, rest=task.excludes_taken)]
    else:
        taken = [users.taken] * task.excludes_taken
    lists = taken + [given] * task.excludes_given
    if task.name == "complete_cart" and state.substitutes is not None:
        lists.append(related_rows(users.given, state.substitutes))
    if not any(len(one.rows) for one in lists):
        return None
    return CSR.concatenate(lists)


def _bought_lately(state: ReleaseState, users: UserContexts, rules: ActiveRules, *, rest: bool) -> CSR:
    """The taken rows that rules leave out; of what they say nothing of, all where `rest` is true."""
    days = [one.numbers for one in rules.bought if one.numbers is not None]
    now = round(rules.now() * SECOND)
    return not_again(users.taken, users.events, state.user_contexts.taking_codes, now, days, rest=rest)
