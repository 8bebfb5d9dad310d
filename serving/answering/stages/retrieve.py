"""Stage 5: the candidates of each request."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from retrieval.sources.fusion import TOWERS
from serving.answering.batch import Batch
from serving.answering.deadline import Deadline
from serving.answering.retriever import Candidates

if TYPE_CHECKING:
    from serving.answering.release_state import ReleaseState


def retrieve(state: ReleaseState, batch: Batch, deadline: Deadline) -> Batch:
    """Reads `users`, `queries`, `vectors`, `exclude` and `allowed`, writes `candidates`: at least `state.shortlist` of
    them where the catalogue has as many, by all sources that count for the task; what a query names by its id or code
    stands first."""
    retriever, vectors, task = state.retriever, batch.vectors, batch.task
    k = min(max(batch.k, state.shortlist), state.version.size)
    if task.order is None:
        hits = retriever.by_towers(vectors, k, batch.exclude, batch.allowed)
        proposed = np.broadcast_to(np.any(vectors, axis=1, keepdims=True), hits.rows.shape)
        return batch.having(candidates=Candidates(hits, {TOWERS: proposed}))
    behaviour = batch.users.behaviour._replace(queries=batch.queries.corrected)
    found = retriever.shortlists(vectors, behaviour, k, task.order, batch.exclude, batch.allowed)
    if any(batch.queries.typed):
        typed = behaviour._replace(queries=batch.queries.typed)
        found = retriever.pin_exact_matches(found, typed, batch.exclude, batch.allowed)
    return batch.having(candidates=found)
