"""API keys in a file: made once, shown once, kept as hashes, and read again when the file changes.

A key is `sl_` and 256 random bits. A plain SHA-256 of it is as good as a slow, salted hash: those protect passwords,
which can be guessed; nobody guesses 256 random bits, no table holds them, and no two keys are alike. It is also quick
enough to be computed for every request.
"""

from __future__ import annotations

import fcntl
import hmac
import json
import logging
import os
import secrets
import stat
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from threading import Lock
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from indexing.bundle.atomic_files import replace_file, writing_to
from retrieval.errors import BadConfig
from serving.http.access import SCOPES, Scope

KEYS_FILE = "keys.json"
PREFIX = "sl_"
SECRET_BYTES = 32
ID_BYTES = 4
OWNER_ALONE = 0o600

log = logging.getLogger(__name__)


class StoredKey(BaseModel):
    """What is kept of a key; `id` is no part of the key."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str
    name: str
    scopes: tuple[Scope, ...]
    created: str
    sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]


class _Stored(BaseModel):
    model_config = ConfigDict(extra="forbid")

    keys: tuple[StoredKey, ...]


class KeyFile:
    """Knows the keys of a file, and follows it; see `serving.http.access.Keys`.

    A file that cannot be read any more leaves the keys before in force. One that was removed leaves none, so that
    every request is refused: keys that were needed once are needed until the server ends.
    """

    def __init__(self, path: Path) -> None:
        """Raises BadConfig for a file that is there and cannot be used."""
        self._path, self._lock = path, Lock()
        self._version = _version_of(path)
        self._keys = read_keys(path)
        self._needed = self._version is not None

    @property
    def needed(self) -> bool:
        """Whether requests need a key: once there is, or was, a file."""
        self._follow()
        return self._needed

    @property
    def count(self) -> int:
        """How many keys there are."""
        self._follow()
        return len(self._keys)

    def scopes_of(self, key: str) -> frozenset[Scope] | None:
        """What the bearer of a key may do; None for one that is not known. Takes as long whichever key it is."""
        found = self._find(key)
        return None if found is None else frozenset(found.scopes)

    def name_of(self, key: str) -> str | None:
        """Whose key it is; None for one that is not known."""
        found = self._find(key)
        return None if found is None else found.name

    def _find(self, key: str) -> StoredKey | None:
        self._follow()
        digest, found = _digest(key), None
        for stored in self._keys:
            if hmac.compare_digest(digest, stored.sha256):
                found = stored
        return found

    def _follow(self) -> None:
        version = _version_of(self._path)
        if version == self._version:
            return
        with self._lock:
            try:
                self._keys = read_keys(self._path)
                self._needed = self._needed or version is not None
            except BadConfig as error:
                log.error("%s; the keys before stay in force", error)
            self._version = version


def add_key(path: Path, name: str, scopes: Sequence[Scope], *, now: Callable[[], datetime]) -> tuple[str, StoredKey]:
    """A new key, which is kept nowhere, and what the file has of it. Raises BadConfig for a name that is taken or
    empty, and for no scopes; BadBundle where the file cannot be written."""
    if not name.strip() or not name.isprintable():
        raise BadConfig(f"the name {name!r} is none; give one that tells whose key it is, such as --name shop")
    if not scopes:
        raise BadConfig(f"a key without scopes opens nothing; give --scope, one or more of {', '.join(SCOPES)}")
    key = PREFIX + secrets.token_urlsafe(SECRET_BYTES)
    created = now().astimezone(UTC).isoformat(timespec="seconds")
    chosen = tuple(scope for scope in SCOPES if scope in scopes)
    stored = StoredKey(
        id=secrets.token_hex(ID_BYTES), name=name, scopes=chosen, created=created, sha256=_digest(key)
    )  # fmt: skip
    with _writing(path):
        keys = read_keys(path)
        if any(name == other.name for other in keys):
            raise BadConfig(f"{path} has a key named {name} already; give another --name, or revoke that one first")
        _write(path, [*keys, stored])
    return key, stored


def revoke_key(path: Path, name_or_id: str) -> StoredKey:
    """Take a key out of the file; returns what was kept of it. Raises BadConfig where there is no such key."""
    with _writing(path):
        keys = read_keys(path)
        gone = next((key for key in keys if name_or_id in (key.id, key.name)), None)
        if gone is None:
            known = ", ".join(key.name for key in keys) or "none"
            raise BadConfig(f"{path} has no key {name_or_id}; it has: {known}")
        _write(path, [key for key in keys if key is not gone])
    return gone


def read_keys(path: Path) -> tuple[StoredKey, ...]:
    """The keys of a file, none where there is no file. Raises BadConfig for a file that holds anything else, and for
    one that others than its owner may write."""
    try:
        with path.open("rb") as file:
            mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
            if mode & (stat.S_IWGRP | stat.S_IWOTH):
                raise BadConfig(f"{path} may be written by others than its owner; run: chmod 600 {path}")
            return _Stored.model_validate_json(file.read()).keys
    except FileNotFoundError:
        return ()
    except OSError as error:
        raise BadConfig(
            f"cannot read {path}: {error.strerror}; run as its owner, or give another file with --keys"
        ) from error
    except ValidationError as error:
        raise BadConfig(
            f"{path} is no file of API keys; restore it, or move it away and make keys with: shortlist keys add"
        ) from error


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    """Holds the lock of a file, which the kernel releases when the process ends in any way."""
    with writing_to(path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
        held = os.open(path.with_name(f".{path.name}.lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, OWNER_ALONE)
        try:
            fcntl.flock(held, fcntl.LOCK_EX)
            yield
        finally:
            os.close(held)


def _write(path: Path, keys: Sequence[StoredKey]) -> None:
    told = json.dumps({"keys": [key.model_dump() for key in keys]}, indent=1).encode() + b"\n"
    scratch = path.with_name(f".{path.name}.new")
    scratch.unlink(missing_ok=True)
    scratch.touch(OWNER_ALONE, exist_ok=False)  # before there is anything to read in it
    replace_file(path, told, scratch=scratch)


def _version_of(path: Path) -> tuple[int, int, int] | None:
    """Tells one state of a file from another; None where there is none."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns, found.st_size


def _digest(key: str) -> str:
    return sha256(key.encode("utf-8", "replace")).hexdigest()
