"""Errors over HTTP: problem details that say what to do, with the id of the request."""

from __future__ import annotations

import logging
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from engine_changes import changed
from retrieval.errors import (
    BadBundle,
    BadConfig,
    BadData,
    BadRequest,
    CorruptBundle,
    GateRefused,
    MissingDependency,
    Regressed,
)
from serving.engine import Engine
from serving.http.app import make_app
from serving.http.observing.observing import Observing

FIELDS = {"type", "title", "status", "detail", "request_id"}

WRONG: dict[str, tuple[str, str, dict[str, Any] | None, int, str]] = {
    "an unknown resource": ("GET", "/v2/recommend", None, 404, "/openapi.json"),
    "a path into the file system": ("GET", "/page/..%2f..%2fengine.py", None, 404, "/openapi.json"),
    "an unknown file of the page": ("GET", "/page/passwd", None, 404, "no such file"),
    "a method that is not there": ("PUT", "/v1/recommend", {}, 405, "use POST"),
    "an unknown field": ("POST", "/v1/recommend", {"kk": 3}, 400, "kk"),
    "a missing field": ("POST", "/v1/search", {}, 400, "query"),
    "a wrong type": ("POST", "/v1/recommend", {"k": "ten"}, 400, "k:"),
    "an event without a kind": (
        "POST",
        "/v1/events",
        {"user_id": "a", "item_id": "b"},
        400,
        "one.event: Field required",
    ),
    "a second event without a kind": (
        "POST",
        "/v1/events",
        {"events": [{"user_id": "a", "item_id": "b", "event": "view"}, {"user_id": "a", "item_id": "b"}]},
        400,
        "events.1.event: Field required",
    ),
    "an unknown task": ("POST", "/v1/batch", {"requests": [{"task": "guess"}]}, 400, "requests.0"),
    "an unknown column": ("POST", "/v1/recommend", {"filters": "colour = red"}, 400, "colour"),
    "no item": ("GET", "/v1/similar?item_id=", None, 400, "item_id"),
    "a release of no such name": ("POST", "/v1/releases/a%20b/activate", None, 400, "release"),
    "a change of an engine alone": ("POST", "/v1/items", {"delete": ["a"]}, 501, "shortlist serve"),
    "releases of an engine alone": ("GET", "/v1/releases", None, 501, "shortlist serve"),
}


@pytest.mark.parametrize("what", WRONG)
def test_an_error_says_what_is_wrong_and_what_to_do(http: TestClient, what: str) -> None:
    method, path, body, status, told = WRONG[what]
    found = http.request(method, path, json=body)
    assert found.status_code == status
    assert found.headers["content-type"] == "application/problem+json"
    problem = found.json()
    assert set(problem) >= FIELDS
    assert problem["status"] == status
    assert told in problem["detail"]
    assert problem["request_id"] == found.headers["x-request-id"]


@pytest.mark.parametrize(
    ("path", "allowed"), [("/v1/search", "GET, HEAD, POST"), ("/v1/recommend", "POST"), ("/healthz", "GET, HEAD")]
)
@pytest.mark.parametrize("method", ["OPTIONS", "PATCH", "TRACE"])
def test_a_method_that_is_not_there_is_answered_with_those_that_are(
    http: TestClient, path: str, allowed: str, method: str
) -> None:
    found = http.request(method, path)
    assert found.status_code == 405
    assert found.headers["allow"] == allowed
    assert allowed in found.json()["detail"]


@pytest.mark.parametrize("given", ["abc-1.2:3_x", "x" * 64])
def test_a_request_keeps_the_id_that_it_has(http: TestClient, given: str) -> None:
    assert http.get("/healthz", headers={"X-Request-ID": given}).headers["x-request-id"] == given


@pytest.mark.parametrize("given", ["", "x" * 65, "a b", "a\tb", "<script>"])
def test_a_request_with_no_id_or_a_strange_one_gets_one(http: TestClient, given: str) -> None:
    ids = [http.get("/healthz", headers={"X-Request-ID": given}).headers["x-request-id"] for _ in range(2)]
    assert len({given, *ids}) == 3
    assert all(len(one) == 32 for one in ids)


@pytest.mark.parametrize(
    ("error", "status", "named"),
    [
        (BadRequest("k is 0; ask for 1"), 400, "BadRequest"),
        (BadData("no titles; add them"), 422, "BadData"),
        (BadConfig("no such device; give cpu"), 422, "BadConfig"),
        (BadBundle("another process writes; wait"), 503, "BadBundle"),
        (CorruptBundle("a file differs; restore it"), 503, "CorruptBundle"),
        (GateRefused("it is worse; look at the report"), 409, "GateRefused"),
        (MissingDependency("redis is not installed; run: pip"), 501, "MissingDependency"),
        (Regressed("slower than before; look"), 500, "Regressed"),
    ],
)
def test_errors_of_the_engine_keep_their_words_and_their_names(
    engine: Engine, error: Exception, status: int, named: str
) -> None:
    found = failing(engine, error).post("/v1/recommend", json={})
    assert found.status_code == status
    assert found.json()["detail"] == str(error)
    assert found.json()["error"] == named
    assert found.headers.get("retry-after") == ("1" if status == 503 else None)


def test_callers_are_not_told_where_files_lie_and_the_log_is(engine: Engine, caplog: pytest.LogCaptureFixture) -> None:
    error = CorruptBundle("/srv/shops/mugs/releases/a.json is changed; restore it")
    found = failing(engine, error).post("/v1/recommend", json={})
    assert found.json()["detail"] == "releases/a.json is changed; restore it"
    assert f"{found.headers['x-request-id']}: {error}" in caplog.text


def test_the_text_of_a_caller_comes_back_as_it_was_sent(engine: Engine) -> None:
    error = BadRequest("filter path = /a/b/c: there is no column path; take another")
    assert failing(engine, error).post("/v1/recommend", json={}).json()["detail"] == str(error)


def test_of_a_batch_the_request_is_named_that_is_wrong(http: TestClient) -> None:
    for wrong in ({"k": 1_001}, {"filters": "colour = red"}, {"history": [["a", "view", "tomorrow"]]}):
        requests = [{"task": "recommend"}, {"task": "recommend", **wrong}]
        found = http.post("/v1/batch", json={"requests": requests})
        assert found.status_code == 400
        assert found.json()["detail"].startswith("requests.1: ")


def test_a_fault_of_the_server_tells_callers_nothing_of_it_and_its_log_all(
    engine: Engine, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.ERROR):
        found = failing(engine, ValueError("secret /etc/passwd")).post("/v1/recommend", json={})
    assert found.status_code == 500
    assert found.headers["content-type"] == "application/problem+json"
    assert found.headers["x-content-type-options"] == "nosniff"
    assert "secret" not in found.text
    assert found.headers["x-request-id"] in caplog.text
    assert "secret" in caplog.text


def test_a_fault_of_what_looks_on_harms_no_answer(engine: Engine) -> None:
    class Broken:
        def ended(self, seen: object) -> None:
            raise ValueError(seen)

        def close(self) -> None:
            pass

    app = make_app(engine, observing=Observing(others=(Broken(),)))
    http = TestClient(app, base_url="http://127.0.0.1", raise_server_exceptions=False)
    assert http.get("/healthz").status_code == 200


def test_a_server_that_is_not_warm_is_not_ready_and_says_when_to_ask_again(engine: Engine) -> None:
    app = make_app(engine)
    http = TestClient(app, base_url="http://127.0.0.1")
    found = http.get("/readyz")
    assert (found.status_code, found.headers["retry-after"]) == (503, "1")
    app.state.ready = True
    assert http.get("/readyz").json() == {"status": "ready"}
    app.state.ready = False  # told to end
    assert http.get("/readyz").status_code == 503
    assert http.get("/healthz").json() == {"status": "alive"}


def failing(engine: Engine, error: Exception) -> TestClient:
    """Asks an application whose engine raises."""
    engine = changed(engine)

    def answer(*given: object, **named: object) -> Any:
        raise error

    engine.answer = answer  # type: ignore[method-assign]
    app: FastAPI = make_app(engine)
    return TestClient(app, base_url="http://127.0.0.1", raise_server_exceptions=False)
