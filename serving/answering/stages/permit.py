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
    return batch.having(exclude=_excluded(batch), allowed=state.filter_masks.of(batch.filters))


def _excluded(batch: Batch) -> CSR | None:
    """The rows that each request must not be answered with; None where there are none."""
    task, users = batch.task, batch.users
    lists = [users.taken] * task.excludes_taken + [users.given] * task.excludes_given
    if not any(len(one.rows) for one in lists):
        return None
    return CSR.concatenate(lists)
