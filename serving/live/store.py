"""What keeps recorded events: the protocol, and what it gives back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from hashlib import sha256
from typing import NamedTuple, Protocol

from serving.live.events import RecordedEvent


class StoredEvent(NamedTuple):
    """An event and its position, counted from 1 in the order in which events were stored."""

    position: int
    event: RecordedEvent


class UserEvents(NamedTuple):
    """What a store holds of a user."""

    events: Sequence[StoredEvent] = ()  # in the order in which they were stored
    forgotten_at: int | None = None  # what the user did up to then (microseconds since 1970, UTC) is not to be read


class EventStore(Protocol):
    """Keeps events. Safe to use from many threads and processes at once, and after a fork.

    Every method raises BadBundle, naming the store and what to do, where the store cannot be read or written.
    """

    @property
    def place(self) -> str:
        """Where it is: a path or a URL, without a password."""
        ...

    def exists(self) -> bool:
        """Whether anything was ever stored."""
        ...

    def identity(self) -> str:
        """A random name that the store was made with; empty where nothing was ever stored."""
        ...

    def append(self, events: Sequence[RecordedEvent]) -> int:
        """Store those whose ids are not stored yet; returns how many those were, once a crash cannot lose them.

        Events of a user who was forgotten since they happened are not stored.
        """
        ...

    def of_user(self, user_id: str, after: int = 0) -> UserEvents:
        """The events of a user with a position beyond `after`."""
        ...

    def since(self, position: int, most: int) -> list[StoredEvent]:
        """The next `most` events beyond a position, in their order."""
        ...

    def forget(self, user_id: str, at: int) -> int:
        """Remove every event of a user, and keep in mind, by a hash, that what the user did up to `at` (microseconds
        since 1970) is not to be read anywhere. Returns how many events were removed."""
        ...

    def forgotten(self) -> Mapping[str, int]:
        """By `user_hash`: the time of each user that was forgotten, microseconds since 1970."""
        ...

    def close(self) -> None:
        """Close what is open; a later call opens it again."""
        ...


def user_hash(identity: str, user_id: str) -> str:
    """What a store keeps of a user that it forgot: a hash that only this store has."""
    return sha256(f"{identity}\0{user_id}".encode(errors="surrogatepass")).hexdigest()
