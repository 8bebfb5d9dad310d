"""What is read of a shopper beyond the release: a store of events, from the position on that the release has read."""

from __future__ import annotations

import logging
from dataclasses import dataclass

from retrieval.errors import ShortlistError
from serving.live.store import EventStore, UserEvents

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class LiveUsers:
    """The events of shoppers that a store holds beyond those of a release."""

    store: EventStore
    after: int  # the position in the store up to which the release holds its events
    now: int  # when a request is made, microseconds since 1970: after the newest event of anyone

    def of(self, user_id: str) -> UserEvents:
        """Those of a shopper; where the store cannot be read none, and a line in the log: a request is answered all the
        same."""
        try:
            return self.store.of_user(user_id, self.after)
        except ShortlistError as error:
            log.warning("answering without recorded events: %s", error)
            return UserEvents()
