"""Logs: one JSON line for each request, and nothing personal in any line."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest
from fastapi.testclient import TestClient

from retrieval.errors import BadBundle
from serving.engine import Engine
from serving.http.app import make_app
from serving.http.observing.logs import RequestLog, structured
from serving.http.observing.observing import Observing

FIELDS = ["time", "request_id", "method", "route", "status", "ms", "release", "degraded", "items"]
PERSONAL = ("ann-secret", "hidden query", "item-00003", "sl_secretkey", "testclient", "Mozilla", "203.0.113.7")


@pytest.fixture
def stream() -> Iterator[io.StringIO]:
    with io.StringIO() as stream, structured(stream):
        yield stream


@pytest.fixture
def client(engine: Engine, stream: io.StringIO) -> Iterator[TestClient]:
    headers = {
        "Authorization": "Bearer sl_secretkey", "User-Agent": "Mozilla", "X-Forwarded-For": "203.0.113.7"
    }  # fmt: skip
    observing = Observing(others=(RequestLog(stream),))
    with TestClient(make_app(engine, observing=observing), headers=headers) as client:
        yield client


def lines(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_a_request_is_one_line(client: TestClient, stream: io.StringIO, engine: Engine) -> None:
    client.post("/v1/recommend", json={"user_id": "ann-secret", "k": 3}, headers={"X-Request-ID": "r1"})
    (told,) = lines(stream)
    assert list(told) == FIELDS
    assert (told["request_id"], told["method"], told["route"], told["status"]) == ("r1", "POST", "/v1/recommend", 200)
    assert (told["items"], told["release"]) == (3, engine.release.id)
    assert told["time"].endswith("+00:00")
    assert told["ms"] > 0


def test_nothing_personal_is_logged_of_good_requests_and_bad(
    client: TestClient, stream: io.StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    body = {"user_id": "ann-secret", "history": ["item-00003"], "audience": {"name": "hidden query"}}
    client.post("/v1/recommend", json=body)
    client.post("/v1/recommend", json={**body, "k": "hidden query"})
    client.post("/v1/recommend", json={**body, "filters": "hidden query"})
    client.get("/v1/users/ann-secret?prefix=hidden query")
    client.get("/ann-secret/hidden query")
    client.get("/v1/search", params={"query": "hidden query"})

    def broken(*_: object, **__: object) -> None:
        raise ValueError(f"cannot read {body}")

    monkeypatch.setattr(Engine, "answer", broken)
    assert client.post("/v1/recommend", json=body).status_code == 500
    assert len(lines(stream)) == 8  # the fault has a line of its own
    for personal in PERSONAL:
        assert personal not in stream.getvalue()


def test_a_fault_is_found_by_its_request_id(
    client: TestClient, stream: io.StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise ValueError("hidden query") from KeyError("ann-secret")

    monkeypatch.setattr(Engine, "answer", broken)
    request_id = client.post("/v1/recommend", json={}).json()["request_id"]
    fault, request = lines(stream)
    assert request["request_id"] == request_id
    assert (fault["level"], fault["error"], fault["cause"]) == ("error", "ValueError", "KeyError")
    assert request_id in fault["message"]
    assert any("broken" in place for place in fault["at"])


def test_what_is_logged_elsewhere_is_json_too(stream: io.StringIO) -> None:
    log = logging.getLogger("serving.live")
    log.warning("looked at %s\ntwice", "a file")
    log.warning("%s fails: %r", "encode", ValueError("hidden query"))
    log.warning("looking: %s", BadBundle("no folder /bundle"))
    told = lines(stream)
    assert [one["message"] for one in told] == [
        "looked at a file\ntwice", "encode fails: 'ValueError'", "looking: no folder /bundle"
    ]  # fmt: skip
    assert {(one["level"], one["logger"]) for one in told} == {("warning", "serving.live")}
