"""API keys: kept as hashes, followed as their file changes, and needed from the first one on."""

from __future__ import annotations

import hmac
import json
import os
import stat
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from retrieval.errors import BadBundle, BadConfig
from serving.engine import Engine
from serving.http.access import Scope
from serving.http.app import make_app
from serving.http.keys import KeyFile, add_key, read_keys, revoke_key


def now() -> datetime:
    return datetime(2026, 1, 2, tzinfo=UTC)


def made(path: Path, name: str = "shop", *scopes: Scope) -> str:
    return add_key(path, name, scopes or ("read",), now=now)[0]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "keys.json"


@pytest.fixture
def client(engine: Engine, path: Path) -> Iterator[TestClient]:
    with TestClient(make_app(engine, keys=KeyFile(path))) as client:
        yield client


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


def test_a_key_is_kept_nowhere_but_its_hash_is(path: Path) -> None:
    key = made(path)
    assert len(key) > 43  # 256 bits in base64
    told = path.read_text()
    assert key not in told
    assert key.removeprefix("sl_") not in told
    assert json.loads(told)["keys"][0]["name"] == "shop"
    assert KeyFile(path).scopes_of(key) == {"read"}
    assert all(file.stat().st_mode & 0o077 == 0 for file in path.parent.iterdir())


def test_keys_differ_and_each_opens_what_it_was_made_for(path: Path) -> None:
    reading, writing = made(path, "a"), made(path, "b", "admin", "write")
    keys = KeyFile(path)
    assert (keys.scopes_of(reading), keys.scopes_of(writing)) == ({"read"}, {"write", "admin"})
    assert [keys.scopes_of(other) for other in ("", "sl_", reading[:-1], reading + "x", "\ud800")] == [None] * 5


def test_every_key_is_compared_in_constant_time_and_to_the_last(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = made(path, "a")
    made(path, "b")
    compared: list[str] = []

    def compare(one: str, other: str) -> bool:
        compared.append(other)
        return one == other

    keys = KeyFile(path)
    monkeypatch.setattr(hmac, "compare_digest", compare)
    assert keys.scopes_of(first) == {"read"}
    assert compared == [key.sha256 for key in read_keys(path)]


def test_a_file_is_followed(path: Path) -> None:
    keys = KeyFile(path)
    assert not keys.needed
    key = made(path)
    assert keys.needed
    assert keys.scopes_of(key) == {"read"}
    revoke_key(path, "shop")
    assert keys.scopes_of(key) is None
    assert keys.needed


def test_keys_of_a_file_that_is_removed_are_refused(path: Path) -> None:
    key = made(path)
    keys = KeyFile(path)
    path.unlink()
    assert keys.needed
    assert keys.scopes_of(key) is None


def test_a_file_that_is_spoilt_leaves_the_keys_before(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    key = made(path)
    keys = KeyFile(path)
    path.write_text("{")
    assert keys.scopes_of(key) == {"read"}
    assert "the keys before stay in force" in caplog.text
    with pytest.raises(BadConfig, match=r"is no file of API keys; restore it"):
        KeyFile(path)


@pytest.mark.parametrize("text", ['{"keys": 1}', '{"keys": [{"id": "a"}]}', "[]", '{"keys": [], "more": 1}', "\udcff"])
def test_what_is_no_file_of_keys_is_refused(path: Path, text: str) -> None:
    path.write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(BadConfig, match="is no file of API keys"):
        KeyFile(path)


def test_a_file_that_others_may_write_is_refused(path: Path) -> None:
    made(path)
    path.chmod(0o620)
    with pytest.raises(BadConfig, match="chmod 600"):
        KeyFile(path)


def test_a_name_is_taken_once_and_a_key_has_scopes(path: Path) -> None:
    made(path)
    with pytest.raises(BadConfig, match="has a key named shop already"):
        made(path)
    with pytest.raises(BadConfig, match="give --scope"):
        add_key(path, "other", (), now=now)
    for name in ("", " ", "a\nb"):
        with pytest.raises(BadConfig, match="the name"):
            made(path, name)
    assert [key.name for key in read_keys(path)] == ["shop"]


def test_a_key_is_revoked_by_its_name_or_id(path: Path) -> None:
    made(path, "a")
    _, other = add_key(path, "b", ("read",), now=now)
    assert revoke_key(path, other.id).name == "b"
    assert revoke_key(path, "a").name == "a"
    with pytest.raises(BadConfig, match="has no key a; it has: none"):
        revoke_key(path, "a")


def test_keys_that_are_made_at_once_are_all_kept(path: Path) -> None:
    threads = [threading.Thread(target=made, args=(path, f"shop {number}")) for number in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {key.name for key in read_keys(path)} == {f"shop {number}" for number in range(12)}
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert {file.name for file in path.parent.iterdir()} == {"keys.json", ".keys.json.lock"}


def test_where_nothing_can_be_written_the_folder_is_named(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.touch()
    with pytest.raises(BadBundle, match="cannot write"):
        made(blocked / "keys.json")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_cannot_be_read_is_named(path: Path) -> None:
    made(path)
    path.chmod(0)
    with pytest.raises(BadConfig, match=r"cannot read .*keys\.json"):
        KeyFile(path)


def test_no_key_is_needed_before_there_is_one(client: TestClient, path: Path) -> None:
    assert client.get("/v1/users").status_code == 200
    key = made(path)
    assert client.get("/v1/users").status_code == 401
    assert client.get("/v1/users", headers=bearer(key)).status_code == 200


def test_requests_need_a_known_key_with_the_scope(client: TestClient, path: Path) -> None:
    reading, writing = made(path), made(path, "till", "write")
    missing = client.post("/v1/recommend", json={})
    assert missing.status_code == 401
    assert missing.headers["www-authenticate"] == "Bearer"
    assert missing.json()["detail"].startswith("send an API key")
    for wrong in ("Bearer nothing", "Basic eDp5", "Bearer", f"Basic {reading}", "Bearer \x7f"):
        assert client.get("/v1/users", headers={"Authorization": wrong}).status_code == 401
    assert client.get("/v1/users", headers=bearer(writing)).status_code == 403
    assert client.post("/v1/releases/rollback", headers=bearer(reading)).status_code == 403
    assert client.get("/healthz").status_code == 200


def test_every_resource_needs_a_scope_but_health_the_page_and_the_schema(client: TestClient, path: Path) -> None:
    made(path)
    paths = client.get("/openapi.json").json()["paths"]
    asked = [(method, name) for name, methods in paths.items() for method in methods]
    opened = [
        name
        for method, name in asked
        if client.request(method, name.replace("{", "").replace("}", "")).status_code != 401
    ]
    assert sorted(opened) == ["/healthz", "/readyz"]
