"""Stage 4: what may be answered."""

from __future__ import annotations

from typing import TYPE_CHECKING

from retrieval.topk import CSR
from serving.answering.batch import Batch
from serving.answering.deadline import Deadline

if TYPE_CHECKING:
    from serving.answering.release_state import ReleaseState


def permit(state: ReleaseState, batch: Batch, deadline: Deadline) -> Batch:
    """Reads `users`, `filters` and the task, writes `exclude` and `allowed`. Raises BadRequest for filters that the
    items do not have."""
    return batch.having(exclude=_excluded(state, batch), allowed=state.filter_masks.of(batch.filters))


def _excluded(state: ReleaseState, batch: Batch) -> CSR | None:
    """The rows that each request must not be answered with; None where there are none. What came with the request
    stands for its group."""
    task, users, groups = batch.task, batch.users, state.version.groups if batch.one_per_group else None
    given = users.given if groups is None or not task.excludes_given else groups.with_variants(users.given)
    lists = [users.taken] * task.excludes_taken + [given] * task.excludes_given
    if not any(len(one.rows) for one in lists):
        return None
    return CSR.concatenate(lists)
