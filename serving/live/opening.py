"""Which store of events a place names."""

from __future__ import annotations

from pathlib import Path

from retrieval.extras import require_extra
from serving.live.sqlite_store import SqliteStore
from serving.live.store import EventStore

FOLDER, FILE = "live", "events.sqlite"  # beside the parts of a bundle
REDIS = ("redis://", "rediss://", "unix://")


def open_store(place: str | Path | None, bundle: Path | None = None) -> EventStore:
    """The store at a path or a `redis://` URL; None: beside the parts of `bundle`. Makes no file, opens no connection.

    A folder stands for the store of a bundle. Raises MissingDependency for Redis without its package.
    """
    if isinstance(place, str) and place.startswith(REDIS):
        require_extra("redis", "a store of events in Redis")
        from serving.live.redis_store import RedisStore

        return RedisStore(place)
    if place is None:
        assert bundle is not None, "a store is at a place or beside a bundle"
        return SqliteStore(bundle / FOLDER / FILE)
    path = Path(place)
    return SqliteStore(path / FOLDER / FILE if path.is_dir() else path)
