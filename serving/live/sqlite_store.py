"""Events in a SQLite file with a write-ahead log: any number of processes read while one writes.

What `append` has returned for is on the disk (synchronous=FULL): neither a killed process nor a power failure loses
it. Threads that store at the same time share a transaction, and with it the wait for the disk.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from secrets import token_hex
from typing import TypeVar

from retrieval.errors import BadBundle
from serving.live.events import RecordedEvent
from serving.live.store import StoredEvent, UserEvents, user_hash

T = TypeVar("T")
COLUMNS = ", ".join(RecordedEvent._fields)
BUSY = 10.0  # seconds to wait for another process that writes
VERSION = "1"
SCHEMA = f"""
CREATE TABLE IF NOT EXISTS about (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS events (
  position INTEGER PRIMARY KEY AUTOINCREMENT,
  event_id TEXT NOT NULL UNIQUE, user_id TEXT NOT NULL, item_id TEXT NOT NULL, event TEXT NOT NULL,
  time INTEGER NOT NULL, quantity REAL, price REAL, basket_id TEXT, query TEXT, rating REAL
);
CREATE INDEX IF NOT EXISTS events_of_user ON events (user_id, position);
CREATE TABLE IF NOT EXISTS forgotten (user TEXT PRIMARY KEY, time INTEGER NOT NULL) WITHOUT ROWID;
INSERT OR IGNORE INTO about VALUES ('version', '{VERSION}');
"""
INSERT = f"INSERT OR IGNORE INTO events ({COLUMNS}) VALUES ({', '.join('?' * len(RecordedEvent._fields))})"


class _Pending:
    """Events of one call, waiting to be stored."""

    def __init__(self, events: Sequence[RecordedEvent]) -> None:
        self.events = events
        self.stored: int | None = None
        self.failed: Exception | None = None


class SqliteStore:
    """See EventStore."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._identity = ""
        self._begin()

    def _begin(self) -> None:
        self._queue_lock, self._write_lock = threading.Lock(), threading.Lock()
        self._queue: list[_Pending] = []
        self._writer: sqlite3.Connection | None = None
        self._readers: list[sqlite3.Connection] = []  # those that no thread uses now

    @property
    def place(self) -> str:
        """See EventStore."""
        return str(self.path)

    def exists(self) -> bool:
        """See EventStore."""
        return bool(self.identity())

    def identity(self) -> str:
        """See EventStore."""
        if not self._identity and self.path.exists():
            self._identity = self._read(_identity)
        return self._identity

    def append(self, events: Sequence[RecordedEvent]) -> int:
        """See EventStore. The first thread that may write stores what all that wait have brought."""
        mine = _Pending(events)
        with self._queue_lock:
            self._queue.append(mine)
        with self._write_lock:
            if mine.stored is None and mine.failed is None:
                with self._queue_lock:
                    waiting, self._queue = self._queue, []
                self._store(waiting)
        if mine.failed is not None:
            raise mine.failed
        assert mine.stored is not None
        return mine.stored

    def of_user(self, user_id: str, after: int = 0) -> UserEvents:
        """See EventStore."""

        def read(one: sqlite3.Connection) -> UserEvents:
            found = one.execute(
                f"SELECT position, {COLUMNS} FROM events WHERE user_id = ? AND position > ? ORDER BY position",
                (user_id, after),
            ).fetchall()
            hashed = user_hash(self.identity(), user_id)
            forgotten = one.execute("SELECT time FROM forgotten WHERE user = ?", (hashed,)).fetchone()
            return UserEvents([_event(row) for row in found], forgotten and forgotten[0])

        return self._read(read) if self.exists() else UserEvents()

    def since(self, position: int, most: int) -> list[StoredEvent]:
        """See EventStore."""
        if not self.exists():
            return []
        query = f"SELECT position, {COLUMNS} FROM events WHERE position > ? ORDER BY position LIMIT ?"
        return [_event(row) for row in self._read(lambda one: one.execute(query, (position, most)).fetchall())]

    def forget(self, user_id: str, at: int) -> int:
        """See EventStore. The bytes of the events are overwritten, in the file and in its write-ahead log."""
        with self._write_lock, self._failing("written"):
            writer = self._open_writer()
            with _transaction(writer):
                hashed = user_hash(self._identity, user_id)
                writer.execute(
                    "INSERT INTO forgotten VALUES (?, ?)"
                    " ON CONFLICT (user) DO UPDATE SET time = max(time, excluded.time)",
                    (hashed, at),
                )
                removed = writer.execute("DELETE FROM events WHERE user_id = ?", (user_id,)).rowcount
            busy = writer.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]
        if busy:
            raise BadBundle(
                f"{self.path}: the user's events are deleted, but another process reads the write-ahead log that held "
                "them; forget the user again"
            )
        return removed

    def forgotten(self) -> dict[str, int]:
        """See EventStore."""
        if not self.exists():
            return {}
        return dict(self._read(lambda one: one.execute("SELECT user, time FROM forgotten").fetchall()))

    def close(self) -> None:
        """See EventStore. Must be called before the process forks, when no other thread uses the store: a connection
        that a child inherits would take the parent's locks for its own."""
        for one in (*self._readers, *([] if self._writer is None else [self._writer])):
            with suppress(sqlite3.Error):
                one.close()
        self._begin()

    def _store(self, waiting: Sequence[_Pending]) -> None:
        """Store what several calls brought in one transaction, and tell each of them."""
        try:
            with self._failing("written"):
                writer = self._open_writer()
                with _transaction(writer):
                    forgotten = dict(writer.execute("SELECT user, time FROM forgotten").fetchall())
                    counts = [self._insert(writer, one.events, forgotten) for one in waiting]
            for one, count in zip(waiting, counts, strict=True):
                one.stored = count
        except Exception as error:
            for one in waiting:
                one.failed = error

    def _insert(self, writer: sqlite3.Connection, events: Sequence[RecordedEvent], forgotten: dict[str, int]) -> int:
        if forgotten:
            events = [one for one in events if one.time > forgotten.get(user_hash(self._identity, one.user_id), -1)]
        before = writer.total_changes
        writer.executemany(INSERT, events)
        return writer.total_changes - before

    def _open_writer(self) -> sqlite3.Connection:
        """The connection that writes; makes the file, and its folder."""
        if self._writer is None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            writer = _connect(self.path)
            try:
                writer.execute("PRAGMA journal_mode = WAL")
                writer.execute("PRAGMA synchronous = FULL")
                writer.execute("PRAGMA secure_delete = ON")
                named = f"INSERT OR IGNORE INTO about VALUES ('identity', '{token_hex(16)}');"
                writer.executescript(f"BEGIN IMMEDIATE; {SCHEMA} {named} COMMIT;")
                about = dict(writer.execute("SELECT name, value FROM about").fetchall())
            except BaseException:
                writer.close()
                raise
            if about["version"] != VERSION:
                writer.close()
                raise BadBundle(f"{self.path} was written by another version; move it away, or use that version")
            self._writer, self._identity = writer, about["identity"]
        return self._writer

    def _read(self, query: Callable[[sqlite3.Connection], T]) -> T:
        """What a query finds on a connection that no other thread uses meanwhile."""
        with self._failing("read"):
            try:
                one = self._readers.pop()
            except IndexError:
                one = _connect(self.path)
            try:
                found = query(one)
            except BaseException:
                one.close()
                raise
            self._readers.append(one)
            return found

    @contextmanager
    def _failing(self, how: str) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            raise BadBundle(
                f"{self.path}: the store of events cannot be {how} ({error}); check the disk and who owns the file, or "
                "keep events elsewhere: Engine.open(bundle, events=PATH)"
            ) from error


def _connect(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(path, timeout=BUSY, isolation_level=None, check_same_thread=False, cached_statements=32)


@contextmanager
def _transaction(writer: sqlite3.Connection) -> Iterator[None]:
    writer.execute("BEGIN IMMEDIATE")
    try:
        yield
    except BaseException:
        writer.execute("ROLLBACK")
        raise
    writer.execute("COMMIT")


def _identity(reader: sqlite3.Connection) -> str:
    """The name of a store; empty while another process makes its tables."""
    if not reader.execute("SELECT 1 FROM sqlite_master WHERE name = 'about'").fetchone():
        return ""
    found: str = reader.execute("SELECT value FROM about WHERE name = 'identity'").fetchone()[0]
    return found


def _event(row: tuple[object, ...]) -> StoredEvent:
    return StoredEvent(row[0], RecordedEvent(*row[1:]))  # type: ignore[arg-type]
