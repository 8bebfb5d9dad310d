"""Forgets a user: in the store of events, in the releases of a bundle, and wherever else a user's id is kept."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple, Protocol

import pyarrow as pa
import pyarrow.parquet as pq

from indexing.bundle.atomic_files import writing_to
from indexing.bundle.bundle import Bundle
from indexing.bundle.prune import prune
from indexing.bundle.releases import Release, release_id
from retrieval.data.time_units import SECOND
from retrieval.errors import BadRequest
from retrieval.fingerprint import fingerprint
from serving.answering.user_store import OF_USERS, users_of, write_without
from serving.live.store import EventStore

REJECTED = "rejected.parquet"  # rows of the last run that broke a rule


class Forgotten(NamedTuple):
    """What was removed of a user, and where something is left, in a line each."""

    removed: tuple[str, ...] = ()
    left: tuple[str, ...] = ()


class Forgets(Protocol):
    """A place that may know a user by id."""

    def forget(self, user_id: str, at: int) -> Forgotten:
        """Remove the user, who asked for it `at`, microseconds since 1970."""
        ...


def forget_user(user_id: object, at: int, places: Sequence[Forgets]) -> Forgotten:
    """Remove a user from every place. Raises BadRequest for what is no id."""
    if not isinstance(user_id, str) or not user_id:
        raise BadRequest(f"user_id is {user_id!r:.80}; give the id of a shopper as a string")
    found = [place.forget(user_id, at) for place in places]
    return Forgotten(*(tuple(line for one in found for line in one[part]) for part in (0, 1)))


@dataclass(frozen=True)
class RecordedEventsForget:
    """The store of events."""

    events: EventStore

    def forget(self, user_id: str, at: int) -> Forgotten:
        """See Forgets. Releases and data sets that hold the user are not read up to this moment any more."""
        removed = self.events.forget(user_id, at)
        return Forgotten((f"{self.events.place}: {removed:,} recorded events",))


@dataclass(frozen=True)
class ReleasesForget:
    """The releases of a bundle, and the rows that its last run set aside.

    The live release is published anew without the user, and all older ones are pruned where any holds the user: there
    is nothing to roll back to afterwards. Counts of items, in which nobody is told from anybody, and models stay.
    """

    bundle: Bundle

    def forget(self, user_id: str, at: int) -> Forgotten:
        """See Forgets. Raises BadBundle where another process writes to the bundle."""
        with self.bundle.lock(), writing_to(self.bundle.path):
            removed = [*self._rejected(user_id)]
            if self._holding(user_id):
                before = {release.id: self._shoppers(release) for release in self._holding(user_id)}
                live, newest = self.bundle.current(), self.bundle.releases()[-1]  # a refused one is kept as the newest
                if {live.id, newest.id} & before.keys():
                    self._publish_without(user_id if live.id in before else None, live, at)
                prune(self.bundle, 1)
                left = {release.id for release in self._holding(user_id)}
                removed += [f"{path}, of release {name}" for name, path in before.items() if name not in left]
            kept = [f"{self._shoppers(release)}, of release {release.id}" for release in self._holding(user_id)]
        return Forgotten(tuple(removed), tuple(kept))

    def _holding(self, user_id: str) -> list[Release]:
        """The releases that hold a user."""
        recorded = self.bundle.releases()
        parts = {name for name in {one.shoppers for one in recorded} if name and self.bundle.has("shoppers", name)}
        holding = {name for name in parts if user_id in users_of(self.bundle.path_of("shoppers", name))}
        return [release for release in recorded if release.shoppers in holding]

    def _shoppers(self, release: Release) -> Path:
        return self.bundle.path / "shoppers" / (release.shoppers or "")

    def _publish_without(self, user_id: str | None, live: Release, at: int) -> None:
        """Make a release live that is like the live one without a user; None: quite like it."""
        created, name = datetime.fromtimestamp(at / SECOND, UTC).isoformat(timespec="microseconds"), live.shoppers
        if user_id is not None:
            with self.bundle.stage("shoppers") as folder:
                part = self._shoppers(live)
                self.bundle.link_files("shoppers", part.name, folder, without=OF_USERS)
                name = fingerprint(part.name, write_without(part, folder, user_id))
                self.bundle.add("shoppers", name, folder)
        draft = replace(
            live,
            id=release_id(created, live.towers, live.index, live.ranker, name, live.words),
            created=created,
            shoppers=name,
            why=f"release {live.id} without a user who is forgotten",
            parent=None,
            manifests={},
        )
        self.bundle.publish(draft)

    def _rejected(self, user_id: str) -> list[str]:
        """Takes a user's rows out of those that the last run set aside."""
        path = self.bundle.path / REJECTED
        if not path.exists():
            return []
        table = pq.read_table(path)
        own = [json.loads(record).get("user_id") == user_id for record in table["record"].to_pylist()]
        if not any(own):
            return []
        beside = path.with_name(f".{REJECTED}")
        pq.write_table(table.filter(pa.array([not one for one in own])), beside)
        beside.replace(path)
        return [f"{path}: {sum(own):,} rows"]
