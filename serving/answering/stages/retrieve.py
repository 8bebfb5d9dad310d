"""Stage 5: the candidates of each request."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from indexing.version.item_groups import ItemGroups
from retrieval.sources.fusion import TOWERS
from retrieval.topk import CSR, Mask, Rows
from serving.answering.batch import Batch
from serving.answering.deadline import Deadline
from serving.answering.retriever import Candidates
from serving.answering.stages.apply_rules import constraints_of
from serving.rules.placement import Constraints, Placement

if TYPE_CHECKING:
    from serving.answering.release_state import ReleaseState
    from serving.rules.compiled import ActiveRules


def retrieve(state: ReleaseState, batch: Batch, deadline: Deadline) -> Batch:
    """Reads `users`, `queries`, `vectors`, `exclude` and `allowed`, writes `candidates`: at least `state.shortlist` of
    them where the catalogue has as many, by all sources that count for the task; what a query names by its id or code
    stands first. Where one item of each group is answered, as many as it takes for k groups; where rules place items,
    those that they name as well."""
    groups, size = state.version.groups if batch.one_per_group else None, state.version.size
    k = _wanted(state, batch)
    found = _candidates(state, batch, k)
    while groups is not None and k < size and _lacks_groups(found.hits.rows, groups, batch.k):
        k = min(2 * k, size)
        found = _candidates(state, batch, k)
    if batch.rules is not None and batch.rules.places:
        found = _with_needed(state, batch, found, batch.rules)
    return batch.having(candidates=found)


def by_towers_alone(state: ReleaseState, batch: Batch, deadline: Deadline) -> Batch | None:
    """The batch with the candidates of the towers, or what is popular where nothing is known and nothing searched for;
    None where no other source would be asked, or only these can find what is searched for."""
    if batch.task.order is None:
        return None
    if not batch.vectors.any():
        return None if any(batch.queries.typed) else popular(state, batch, deadline)
    return batch.having(candidates=_of_towers(state, batch, _wanted(state, batch)))


def popular(state: ReleaseState, batch: Batch, deadline: Deadline) -> Batch:
    """The batch with what is popular."""
    hits = state.retriever.popular(len(batch), _wanted(state, batch), batch.exclude, batch.allowed)
    return batch.having(candidates=Candidates(hits, {}))


def _wanted(state: ReleaseState, batch: Batch) -> int:
    """How many candidates are fetched."""
    return min(max(batch.k, state.shortlist), state.version.size)


def _lacks_groups(rows: Rows, groups: ItemGroups, k: int) -> bool:
    """Whether any of some full shortlists, int64 [n, k or more], holds items of fewer than k groups."""
    return bool(((groups.first_of_each(rows).sum(axis=1) < k) & (rows[:, -1] >= 0)).any())


def _candidates(state: ReleaseState, batch: Batch, k: int) -> Candidates:
    retriever, vectors, task = state.retriever, batch.vectors, batch.task
    if task.order is None:
        return _of_towers(state, batch, k)
    behaviour = batch.users.behaviour._replace(queries=batch.queries.corrected)
    found = retriever.shortlists(vectors, behaviour, k, task.order, batch.exclude, batch.allowed)
    if any(batch.queries.typed):
        typed = behaviour._replace(queries=batch.queries.typed)
        found = retriever.pin_exact_matches(found, typed, batch.exclude, batch.allowed)
    return found


def _of_towers(state: ReleaseState, batch: Batch, k: int) -> Candidates:
    hits = state.retriever.by_towers(batch.vectors, k, batch.exclude, batch.allowed)
    return Candidates(hits, {TOWERS: np.broadcast_to(batch.vectors.any(axis=1, keepdims=True), hits.rows.shape)})


def _with_needed(state: ReleaseState, batch: Batch, found: Candidates, rules: ActiveRules) -> Candidates:
    """The candidates with what pins, slots and floors are about, and as many more as it takes to fill k places under
    caps."""
    if len(rules.pinned):
        found = _with_rows(state, batch, found, rules.pinned)
    for mask, count in rules.needs:
        rows = found.hits.rows
        held = (mask[np.maximum(rows, 0)] & (rows >= 0)).sum(axis=1)
        found = _with_more(state, batch, found, np.flatnonzero(held < count), count, mask)
    constraints = constraints_of(state, batch, rules)
    if not constraints.caps:
        return found
    for line in range(len(batch)):
        found = _with_enough(state, batch, found, line, constraints)
    return found


def _with_rows(state: ReleaseState, batch: Batch, found: Candidates, rows: Rows) -> Candidates:
    """The candidates, each request's with those of some rows behind them that may be answered, which no source
    proposed."""
    may, lines = state.version.answerable(batch.allowed), np.arange(len(batch))
    new = np.tile(rows if may is None else rows[may[rows]], (len(batch), 1))
    if batch.exclude is not None:
        each = CSR(np.arange(len(batch) + 1) * new.shape[1], new.ravel())
        new[each.listed_in(batch.exclude).reshape(new.shape)] = -1
    missing = (new >= 0) & ~(new[:, :, None] == found.hits.rows[:, None, :]).any(axis=2)
    if not missing.any():
        return found
    behaviour = batch.users.behaviour._replace(queries=batch.queries.corrected)
    hits = state.retriever.as_hits(batch.vectors, behaviour, np.where(missing, new, -1), batch.task.order)
    return found.followed_by(Candidates(hits, {}), lines)


def _with_enough(
    state: ReleaseState, batch: Batch, found: Candidates, line: int, constraints: Constraints
) -> Candidates:
    """The candidates with so many for one request that k places can be filled under caps, where the catalogue has as
    many."""
    while True:
        rows = found.hits.rows[line]
        placement = Placement(constraints, rows, found.exact[line], batch.k)
        filled = len(placement.filled())
        if filled == batch.k:
            return found
        more = _with_more(state, batch, found, np.array([line]), batch.k, placement.still_open(filled))
        if more is found:
            return found
        found = more


def _with_more(
    state: ReleaseState, batch: Batch, found: Candidates, lines: Rows, k: int, mask: Mask | None
) -> Candidates:
    """The candidates, those of some requests with the k best of a mask that they do not hold yet behind them."""
    if not len(lines):
        return found
    allowed = batch.allowed if mask is None else mask if batch.allowed is None else mask & batch.allowed
    asked = batch.having(candidates=found).select(lines).having(allowed=allowed)
    return found.followed_by(_candidates(state, asked, min(k, state.version.size)), lines)
