"""A real Redis server for tests, where Debian's package redis-server is installed."""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


@contextmanager
def redis_server(folder: Path, *options: str) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """The URL of a server of one's own, at a socket, that keeps what it holds in a folder; and its process."""
    binary = shutil.which("redis-server")
    if binary is None:
        pytest.skip("there is no redis-server; install Debian's package redis-server")
    redis = pytest.importorskip("redis", reason="install the extra redis")
    socket = folder / "socket"
    arguments = ("--port", "0", "--unixsocket", str(socket), "--dir", str(folder), "--save", "", *options)
    with subprocess.Popen([binary, *arguments], stdout=subprocess.DEVNULL) as server:
        url = f"unix://{socket}"
        with redis.Redis.from_url(url) as client:
            for _ in range(500):
                try:
                    client.ping()
                    break
                except redis.RedisError:
                    time.sleep(0.02)
        yield url, server
        server.terminate()
