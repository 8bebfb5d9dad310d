"""Events in Redis, for engines on several machines.

Each call stores its events in one Lua script, which Redis runs alone: all or none. Whether what was stored survives a
failure of the server is the server's setting: `appendonly yes` with `appendfsync always` loses nothing, `everysec` a
second at most, and without `appendonly` a restart may lose everything since the last snapshot.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from secrets import token_hex
from typing import Any
from urllib.parse import urlsplit

import redis

from retrieval.errors import BadBundle, BadRequest
from serving.live.events import RecordedEvent
from serving.live.store import StoredEvent, UserEvents, user_hash

PREFIX = "shortlist:{events}:"  # in braces: what a cluster keeps on one node
USER = f"{PREFIX}user:"  # and the id: the positions of a user's events
KEYS = ("ids", "events", "forgotten", "identity", "position")
TIMEOUT = 5.0  # seconds
# arguments: of each event its id, user, hash of the user, time, and the whole as JSON
APPEND = """
local stored = 0
for at = 1, #ARGV, 5 do
  local forgotten = redis.call('HGET', KEYS[3], ARGV[at + 2])
  if not (forgotten and tonumber(ARGV[at + 3]) <= tonumber(forgotten))
      and redis.call('SADD', KEYS[1], ARGV[at]) == 1 then
    local position = redis.call('INCR', KEYS[5])
    redis.call('HSET', KEYS[2], position, ARGV[at + 4])
    redis.call('RPUSH', KEYS[6] .. ARGV[at + 1], position)
    stored = stored + 1
  end
end
return stored
"""
FORGET = """
local positions = redis.call('LRANGE', KEYS[6], 0, -1)
for _, position in ipairs(positions) do
  redis.call('SREM', KEYS[1], cjson.decode(redis.call('HGET', KEYS[2], position))[1])
  redis.call('HDEL', KEYS[2], position)
end
redis.call('DEL', KEYS[6])
local before = redis.call('HGET', KEYS[3], ARGV[1])
if not before or tonumber(before) < tonumber(ARGV[2]) then
  redis.call('HSET', KEYS[3], ARGV[1], ARGV[2])
end
return #positions
"""
OF_USER = """
local found = {}
for _, position in ipairs(redis.call('LRANGE', KEYS[6], 0, -1)) do
  if tonumber(position) > tonumber(ARGV[2]) then
    found[#found + 1] = position
    found[#found + 1] = redis.call('HGET', KEYS[2], position)
  end
end
return {redis.call('HGET', KEYS[3], ARGV[1]), found}
"""


class RedisStore:
    """See EventStore."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._identity = ""
        self._keys = [f"{PREFIX}{name}" for name in KEYS]
        try:
            self._client: Any = redis.Redis.from_url(  # whose types allow for answers that come later
                url, decode_responses=True, socket_timeout=TIMEOUT, socket_connect_timeout=TIMEOUT
            )
        except ValueError as error:
            raise BadRequest(f"{url} is no URL of Redis ({error}); give one such as redis://localhost:6379/0") from None
        self._append, self._forget, self._of_user = map(self._client.register_script, (APPEND, FORGET, OF_USER))

    @property
    def place(self) -> str:
        """See EventStore."""
        parts = urlsplit(self.url)
        return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()

    def exists(self) -> bool:
        """See EventStore."""
        return bool(self.identity())

    def identity(self) -> str:
        """See EventStore."""
        if not self._identity:
            with self._failing():
                self._identity = self._client.get(self._keys[3]) or ""
        return self._identity

    def append(self, events: Sequence[RecordedEvent]) -> int:
        """See EventStore."""
        with self._failing():
            identity = self._made()
            arguments: list[Any] = []
            for one in events:
                hashed = user_hash(identity, one.user_id)
                arguments += [one.event_id, one.user_id, hashed, one.time, json.dumps(one, ensure_ascii=False)]
            return int(self._append([*self._keys, USER], arguments))

    def of_user(self, user_id: str, after: int = 0) -> UserEvents:
        """See EventStore."""
        if not self.exists():
            return UserEvents()
        with self._failing():
            hashed = user_hash(self._identity, user_id)
            at, found = self._of_user([*self._keys, f"{USER}{user_id}"], [hashed, after])
        events = [_event(int(position), line) for position, line in zip(found[::2], found[1::2], strict=True)]
        return UserEvents(events, None if at is None else int(at))

    def since(self, position: int, most: int) -> list[StoredEvent]:
        """See EventStore."""
        with self._failing():
            last = int(self._client.get(self._keys[4]) or 0)
            while position < last:
                positions = range(position + 1, min(last, position + most) + 1)
                lines = self._client.hmget(self._keys[1], [str(at) for at in positions])
                found = [_event(at, line) for at, line in zip(positions, lines, strict=True) if line is not None]
                if found:
                    return found
                position += most  # all of them were forgotten
        return []

    def forget(self, user_id: str, at: int) -> int:
        """See EventStore. An append-only file holds the events until the server writes it anew, for which it is
        asked."""
        with self._failing():
            hashed = user_hash(self._made(), user_id)
            removed = int(self._forget([*self._keys, f"{USER}{user_id}"], [hashed, at]))
            if self._client.info("persistence").get("aof_enabled"):
                with suppress(redis.ResponseError):  # it is being written anew, or the server lets nobody ask
                    self._client.bgrewriteaof()
        return removed

    def forgotten(self) -> dict[str, int]:
        """See EventStore."""
        with self._failing():
            return {user: int(time) for user, time in self._client.hgetall(self._keys[2]).items()}

    def close(self) -> None:
        """See EventStore."""
        self._client.connection_pool.disconnect()

    def _made(self) -> str:
        """The identity of the store, which begins here where there is none."""
        if not self.identity():
            self._client.setnx(self._keys[3], token_hex(16))
        return self.identity()

    @contextmanager
    def _failing(self) -> Iterator[None]:
        try:
            yield
        except redis.RedisError as error:
            raise BadBundle(
                f"{self.place}: the store of events does not answer ({error}); start the server, or keep events "
                "elsewhere: Engine.open(bundle, events=...)"
            ) from error


def _event(position: int, line: str) -> StoredEvent:
    return StoredEvent(position, RecordedEvent(*json.loads(line)))
