"""Bodies that nobody means well with, and callers who are slow: no 500, no crash, memory within bounds."""

from __future__ import annotations

import json
import shutil
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from http_servers import running
from indexing.bundle.bundle import Bundle
from serving.engine import Engine
from serving.http.app import make_app
from serving.http.options import Limits

POSTS = ("recommend", "search", "similar", "cart", "batch", "explain", "why-not", "events", "items", "rules/check")
DEEP = 50_000
BODIES: dict[str, bytes] = {
    "nothing": b"",
    "null": b"null",
    "a number": b"1",
    "a text": b'"x"',
    "a list": b"[]",
    "an open bracket": b"{",
    "two bodies": b"{}{}",
    "zeros": b"\0" * 1_000,
    "bytes": bytes(range(256)),
    "a picture": b"\x89PNG\r\n\x1a\n" + bytes(200),
    "a pickle": b"\x80\x04\x95\x10\x00\x00\x00\x00\x00\x00\x00\x8c\x05posix\x94.",
    "compressed": b"\x1f\x8b\x08\x00" + bytes(100),
    "UTF-16": '{"k": 3}'.encode("utf-16"),
    "a mark before": b"\xef\xbb\xbf{}",
    "broken UTF-8": b'{"query": "\xc3\x28", "user_id": "\xff"}',
    "deep lists": b"[" * DEEP + b"]" * DEEP,
    "deep objects": b'{"a":' * DEEP + b"1" + b"}" * DEEP,
    "deep filters": b'{"query": "mug", "filters": ' + b"[" * 900 + b"]" * 900 + b"}",
    "deep items": b'{"upsert": [{"item_id": "a", "title": "x", "deep": ' + b"[" * 900 + b"1" + b"]" * 900 + b"}]}",
    "a name often": b'{"k": 1, ' * 1 + b'"k": 2, ' * 5_000 + b'"k": 3}',
    "many names": json.dumps({f"name {number}": 1 for number in range(20_000)}).encode(),
    "a long number": b'{"k": ' + b"9" * 100_000 + b"}",
    "a large number": b'{"k": 1e400, "deadline_ms": 1e308}',
    "a number of many digits": b'{"deadline_ms": 0.' + b"1" * 100_000 + b"}",
    "no number": b'{"diversity": NaN, "deadline_ms": Infinity}',
    "minus nothing": b'{"k": -0, "diversity": -0.0}',
}
TEXTS: dict[str, str] = {
    "half a pair": "\\ud800",
    "the other half": "x\\udfffx",
    "NUL": "a\\u0000b",
    "controls": "\\u0001\\u001b[31m\\u007f",
    "from right to left": "\\u202e\\u2066abc\\u202c",
    "nothing visible": "\\u200b\\ufeff\\u00ad",
    "combining": "a" + "\\u0301" * 3_000,
    "long ligatures": "\\ufdfa" * 3_000,
    "emoji": "👩‍👩‍👧‍👦" * 500,
    "markup": "<script>alert(1)</script>&'\\\"",
    "a path": "../../../../etc/passwd",
    "a format": "%s%n{0}{x.__class__}${jndi:ldap://x}",
    "SQL": "'; DROP TABLE events; --",
    "a line break": "x\\r\\nSet-Cookie: a=b",
    "one letter": "x" * 9_000,
    "many words": "mug " * 2_400,
    "brackets": "((((" * 2_000,
}
BY_TEXT: dict[str, tuple[str, str]] = {
    "query": ("search", '{"query": "%"}'),
    "query of nobody": ("search", '{"query": "%", "spellcheck": false, "explain": "full", "k": 2}'),
    "user": ("recommend", '{"user_id": "%"}'),
    "history": ("recommend", '{"history": ["%", ["%", "%", "%"]]}'),
    "filters": ("search", '{"query": "mug", "filters": "%"}'),
    "filter": ("search", '{"query": "mug", "filters": [["%", "%", "%"]]}'),
    "value": ("search", '{"query": "mug", "filters": [["title", "in", ["%", null, true, 1.5]]]}'),
    "audience": ("recommend", '{"page": "%", "audience": {"%": ["%"]}}'),
    "cursor": ("recommend", '{"cursor": "%"}'),
    "similar": ("similar", '{"item_id": "%"}'),
    "cart": ("cart", '{"items": ["%", "%"]}'),
    "why not": ("why-not", '{"request": {"task": "search", "query": "%"}, "item_id": "%"}'),
    "event": ("events", '{"user_id": "%", "item_id": "%", "event": "%", "query": "%", "event_id": "%"}'),
    "time": ("events", '{"user_id": "a", "item_id": "b", "event": "view", "timestamp": "%"}'),
    "item": ("items", '{"upsert": [{"item_id": "%", "title": "%", "%": "%"}]}'),
    "deleted": ("items", '{"delete": ["%"]}'),
    "rules": ("rules/check", '{"toml": "%"}'),
    "a rule": ("rules/check", "{\"toml\": \"[[rule]]\\nname = '%'\\nkind = 'block'\\nwhere = '%'\"}"),
    "field": ("recommend", '{"%": 1}'),
    "language": ("recommend", '{"language": "%"}'),
}
JSON = {"Content-Type": "application/json"}


@pytest.fixture(scope="module")
def hostile(bundle_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    """An application that may change a bundle."""
    path = Path(shutil.copytree(bundle_path, tmp_path_factory.mktemp("hostile") / "bundle"))
    with Engine.open(path, device="cpu") as engine:
        app = make_app(engine, Bundle.open(path))
        yield TestClient(app, base_url="http://127.0.0.1:8000", raise_server_exceptions=False)


@pytest.mark.parametrize("path", POSTS)
@pytest.mark.parametrize("body", BODIES)
def test_no_body_makes_the_server_fail(hostile: TestClient, path: str, body: str) -> None:
    found = hostile.post(f"/v1/{path}", content=BODIES[body], headers=JSON)
    assert found.status_code in (200, 400, 413, 422)
    assert json.loads(found.content)
    if found.status_code != 200:
        assert found.headers["content-type"] == "application/problem+json"
        assert len(found.content) < 3_000


@pytest.mark.parametrize("where", BY_TEXT)
@pytest.mark.parametrize("text", TEXTS)
def test_no_text_makes_the_server_fail(hostile: TestClient, where: str, text: str) -> None:
    path, body = BY_TEXT[where]
    content = body.replace("%", TEXTS[text]).encode()
    found = hostile.post(f"/v1/{path}", content=content, headers=JSON)
    assert found.status_code in (200, 400, 422), found.text
    assert json.loads(found.content)
    assert "\r" not in "".join(found.headers.values())


@pytest.mark.parametrize("method", ["GET", "DELETE", "POST"])
@pytest.mark.parametrize(
    "path",
    [
        "/v1/users/%00",
        "/v1/users/%ff%fe",
        "/v1/users/%ED%A0%80",
        "/v1/users/..%2f..%2fetc%2fpasswd",
        "/v1/users/" + "x" * 5_000,
        "/v1/items/%00",
        "/v1/items/%ff",
        "/v1/items?id=%00&id=%ff&id=%ED%A0%80",
        "/v1/items?" + "&".join(["id=a"] * 500),
        "/v1/search?query=%00%ff&k=99999999999999999999999",
        "/v1/search?query=mug&k=1e9&language=%ff",
        "/v1/users?prefix=%ff%00&k=-1",
        "/v1/releases/..%2f..%2f/activate",
        "/v1/releases/%00/activate",
        "/page/..%2f..%2fpyproject.toml",
        "/page/%2e%2e/%2e%2e/pyproject.toml",
        "//etc/passwd",
        "/page//etc/passwd",
    ],
)
def test_no_path_makes_the_server_fail_or_reaches_a_file(hostile: TestClient, method: str, path: str) -> None:
    found = hostile.request(method, path)
    assert found.status_code in (200, 400, 404, 405)
    assert b"root:" not in found.content
    assert b"[project]" not in found.content


SLOW = Limits(timeout_s=0.5, connections=20, head_bytes=10_000)


@pytest.fixture(scope="module")
def address(engine: Engine) -> Iterator[tuple[str, int]]:
    """Where a server listens that does not wait for long."""
    with running(slow_app(engine), SLOW) as url:
        at = urlsplit(url)
        assert at.hostname is not None
        assert at.port is not None
        yield at.hostname, at.port


def slow_app(engine: Engine) -> FastAPI:
    return make_app(engine, limits=SLOW)


def post_head(length: int) -> bytes:
    """The head of a search with a body of a length."""
    lines = (
        "POST /v1/search HTTP/1.1",
        "Host: 127.0.0.1",
        "Content-Type: application/json",
        f"Content-Length: {length}",
    )
    return "\r\n".join((*lines, "", "")).encode()


def told(connection: socket.socket) -> bytes:
    """All that comes until the connection is closed."""
    connection.settimeout(20)
    found = b""
    try:
        while part := connection.recv(65_536):
            found += part
    except ConnectionResetError:
        pass
    return found


@pytest.mark.parametrize("sent", [b"", b"\r\n", b"GET /heal", b"GET /healthz HTTP/1.1\r\nHost: x\r\n"])
def test_a_head_that_does_not_come_ends_the_connection(address: tuple[str, int], sent: bytes) -> None:
    with socket.create_connection(address) as connection:
        connection.sendall(sent)
        assert told(connection) == b""
    assert is_alive(address)


def test_who_does_not_read_an_answer_is_left(address: tuple[str, int]) -> None:
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
        connection.connect(address)
        asked = b"GET /openapi.json HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
        sent = 0
        connection.settimeout(SLOW.timeout_s * 4)
        try:
            while sent < 2**26:  # answers of many times as much: they do not gather in the server
                sent += connection.send(asked * 100)
        except OSError:  # it takes no more of them, or has closed
            pass
        assert sent < 2**26
    assert is_alive(address)


def test_a_head_that_comes_a_byte_at_a_time_ends_the_connection(address: tuple[str, int]) -> None:
    def trickle(connection: socket.socket) -> None:
        for byte in b"GET /healthz HTTP/1.1\r\nX: " + b"x" * 1_000:
            connection.sendall(bytes([byte]))
            time.sleep(0.05)

    with socket.create_connection(address) as connection, pytest.raises(OSError, match=r"reset|[Bb]roken"):
        trickle(connection)
    assert is_alive(address)


def test_an_empty_line_after_an_answer_does_not_keep_a_connection(address: tuple[str, int]) -> None:
    with socket.create_connection(address) as connection:
        connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        time.sleep(0.2)
        connection.sendall(b"\r\n")
        assert told(connection).startswith(b"HTTP/1.1 200")


def test_a_head_without_an_end_is_refused_before_it_fills_the_memory(address: tuple[str, int]) -> None:
    with socket.create_connection(address) as connection:
        connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n" + b"X-Long: y\r\n" * 2_000)
        found = told(connection)
    assert found.startswith(b"HTTP/1.1 431 ") or found == b""  # reset, where more was on its way
    assert is_alive(address)


def test_what_is_no_http_is_refused_with_a_problem(address: tuple[str, int]) -> None:
    with socket.create_connection(address) as connection:
        connection.sendall(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 is TLS\r\n\r\n")
        head, _, body = told(connection).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 400 ")
    assert b"application/problem+json" in head
    assert json.loads(body)["status"] == 400


def test_a_body_that_does_not_come_is_408(address: tuple[str, int]) -> None:
    with socket.create_connection(address) as connection:
        connection.sendall(post_head(99) + b"{")
        head, _, body = told(connection).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 408 ")
    assert b"connection: close" in head.lower()
    assert "0.5 s" in json.loads(body)["detail"]


@pytest.mark.parametrize("chunked", [False, True])
def test_too_large_a_body_is_read_to_its_end_so_that_its_sender_sees_the_answer(
    address: tuple[str, int], chunked: bool
) -> None:
    size = 6 * SLOW.body_bytes  # more than the buffers of both sides hold
    head, body = post_head(size), b"x" * size
    if chunked:
        head = head.replace(b"Content-Length: %d" % size, b"Transfer-Encoding: chunked")
        body = b"%x\r\n%s\r\n" % (size, body) + b"0\r\n\r\n"
    with socket.create_connection(address) as connection:
        connection.settimeout(20)
        connection.sendall(head + body)
        found = b"".join(iter(lambda: connection.recv(65_536), b""))  # and is closed without a reset
    assert found.startswith(b"HTTP/1.1 413 ")
    assert found.endswith(b"}")


def test_of_too_many_connections_those_are_closed_that_ask_for_nothing(address: tuple[str, int]) -> None:
    several = [socket.create_connection(address) for _ in range(SLOW.connections)]
    try:
        time.sleep(0.1)
        assert all(is_alive(address) for _ in range(5))
        assert told(several[0]) == b""  # the first is closed
    finally:
        for connection in several:
            connection.close()
    assert is_alive(address)


def is_alive(address: tuple[str, int]) -> bool:
    """Whether a server answers."""
    request = b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n"
    with socket.create_connection(address) as connection:
        connection.sendall(request)
        return told(connection).startswith(b"HTTP/1.1 200")
