"""Stage 5: the candidates of each request."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from indexing.version.item_groups import ItemGroups
from retrieval.sources.fusion import TOWERS
from retrieval.topk import Rows
from serving.answering.batch import Batch
from serving.answering.deadline import Deadline
from serving.answering.retriever import Candidates

if TYPE_CHECKING:
    from serving.answering.release_state import ReleaseState


def retrieve(state: ReleaseState, batch: Batch, deadline: Deadline) -> Batch:
    """Reads `users`, `queries`, `vectors`, `exclude` and `allowed`, writes `candidates`: at least `state.shortlist` of
    them where the catalogue has as many, by all sources that count for the task; what a query names by its id or code
    stands first. Where one item of each group is answered, as many as it takes for k groups."""
    groups, size = state.version.groups if batch.one_per_group else None, state.version.size
    k = _wanted(state, batch)
    found = _candidates(state, batch, k)
    while groups is not None and k < size and _lacks_groups(found.hits.rows, groups, batch.k):
        k = min(2 * k, size)
        found = _candidates(state, batch, k)
    return batch.having(candidates=found)


def by_towers_alone(state: ReleaseState, batch: Batch, deadline: Deadline) -> Batch | None:
    """The batch with the candidates of the towers, or what is popular where they know nothing; None where no other
    source would be asked."""
    if batch.task.order is None or not batch.vectors.any():
        return None
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
