"""Stage 1: what is known of who asks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from serving.answering.batch import Batch
from serving.answering.deadline import Deadline
from serving.answering.user_context import UserContexts
from serving.request import Request

if TYPE_CHECKING:
    from serving.answering.release_state import ReleaseState


@dataclass(frozen=True)
class LiveRequests:
    """Requests that are asked now; their users are known from the release, or by what came with the request."""

    requests: Sequence[Request]

    def __len__(self) -> int:
        return len(self.requests)

    def select(self, part: NDArray[np.int64]) -> LiveRequests:
        """See RequestSource."""
        return LiveRequests([self.requests[at] for at in part.tolist()])

    @property
    def texts(self) -> list[str]:
        """See RequestSource."""
        return [request.text for request in self.requests]

    def users(self, state: ReleaseState) -> UserContexts:
        """See RequestSource."""
        return state.user_contexts.of_requests(self.requests)


def read_user(state: ReleaseState, batch: Batch, deadline: Deadline) -> Batch:
    """Reads `requests`, writes `users`."""
    return batch.having(users=batch.requests.users(state))


def as_strangers(state: ReleaseState, batch: Batch, deadline: Deadline) -> Batch:
    """The batch as of shoppers of whom nothing is known; nothing is left out as taken before, or as given."""
    return batch.having(users=state.user_contexts.of_nobody(len(batch)))
