"""Stores of events: a SQLite file, and a real Redis server where Debian's package redis-server is installed."""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from serving.live.opening import open_store
from serving.live.store import EventStore


@pytest.fixture(scope="session")
def redis_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server of one's own, at a socket."""
    binary = shutil.which("redis-server")
    if binary is None:
        pytest.skip("there is no redis-server; install Debian's package redis-server")
    redis = pytest.importorskip("redis", reason="install the extra redis")
    folder = tmp_path_factory.mktemp("redis")
    socket = folder / "socket"
    arguments = ("--port", "0", "--unixsocket", str(socket), "--dir", str(folder), "--appendonly", "yes", "--save", "")
    with subprocess.Popen([binary, *arguments], stdout=subprocess.DEVNULL) as server:
        url = f"unix://{socket}"
        client = redis.Redis.from_url(url)
        for _ in range(500):
            try:
                client.ping()
                break
            except redis.RedisError:
                time.sleep(0.02)
        yield url
        client.close()
        server.terminate()


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
