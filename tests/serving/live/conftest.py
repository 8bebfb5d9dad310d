"""Stores of events: a SQLite file, and a Redis server."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from redis_server import redis_server
from serving.live.opening import open_store
from serving.live.store import EventStore


@pytest.fixture(scope="session")
def redis_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server for all tests."""
    with redis_server(tmp_path_factory.mktemp("redis"), "--appendonly", "yes") as (url, _):
        yield url


@pytest.fixture(params=["sqlite", "redis"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Where an empty store is."""
    if request.param == "sqlite":
        return str(tmp_path / "events.sqlite")
    import redis

    url: str = request.getfixturevalue("redis_url")
    with redis.Redis.from_url(url) as client:
        client.flushall()
    return url


@pytest.fixture
def store(place: str) -> Iterator[EventStore]:
    """An empty store."""
    found = open_store(place)
    yield found
    found.close()
