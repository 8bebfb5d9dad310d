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
    k = min(max(batch.k, state.shortlist), size)
    found = _candidates(state, batch, k)
    while groups is not None and k < size and _lacks_groups(found.hits.rows, groups, batch.k):
        k = min(2 * k, size)
        found = _candidates(state, batch, k)
    return batch.having(candidates=found)


def _lacks_groups(rows: Rows, groups: ItemGroups, k: int) -> bool:
    """Whether any of some full shortlists, int64 [n, k or more], holds items of fewer than k groups."""
    return bool(((groups.first_of_each(rows).sum(axis=1) < k) & (rows[:, -1] >= 0)).any())


def _candidates(state: ReleaseState, batch: Batch, k: int) -> Candidates:
    retriever, vectors, task = state.retriever, batch.vectors, batch.task
    if task.order is None:
        hits = retriever.by_towers(vectors, k, batch.exclude, batch.allowed)
        proposed = np.broadcast_to(np.any(vectors, axis=1, keepdims=True), hits.rows.shape)
        return Candidates(hits, {TOWERS: proposed})
    behaviour = batch.users.behaviour._replace(queries=batch.queries.corrected)
    found = retriever.shortlists(vectors, behaviour, k, task.order, batch.exclude, batch.allowed)
    if any(batch.queries.typed):
        typed = behaviour._replace(queries=batch.queries.typed)
        found = retriever.pin_exact_matches(found, typed, batch.exclude, batch.allowed)
    return found
