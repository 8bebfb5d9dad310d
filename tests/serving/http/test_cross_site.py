"""What a page of another site can make a browser send changes nothing, and is not answered."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from serving.engine import Engine
from serving.http.app import make_app
from serving.http.keys import KeyFile, add_key
from serving.http.options import Limits

CHANGE = "/v1/recommend"


@pytest.fixture(scope="module")
def client(engine: Engine) -> Iterator[TestClient]:
    with TestClient(make_app(engine), base_url="http://shop.example:8000") as client:
        yield client


@pytest.mark.parametrize(
    "headers",
    [
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Origin": "https://evil.example"},
        {"Origin": "http://shop.example"},  # another port is another origin
        {"Origin": "null"},
        {"Sec-Fetch-Site": "cross-site", "Origin": "http://shop.example:8000"},
    ],
)
def test_a_page_of_another_site_changes_nothing(client: TestClient, headers: dict[str, str]) -> None:
    for method, path in (("POST", CHANGE), ("POST", "/v1/releases/rollback"), ("DELETE", "/v1/users/ann")):
        found = client.request(method, path, headers=headers, json={})
        assert found.status_code == 403
        assert "another site" in found.json()["detail"]


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Sec-Fetch-Site": "same-origin", "Origin": "https://behind.a.proxy"},
        {"Sec-Fetch-Site": "none"},
        {"Origin": "http://shop.example:8000"},
    ],
)
def test_programs_and_our_own_page_are_answered(client: TestClient, headers: dict[str, str]) -> None:
    assert client.post(CHANGE, headers=headers, json={"k": 1}).status_code == 200


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", "", "x"])
def test_what_a_form_can_send_is_no_body(client: TestClient, kind: str) -> None:
    found = client.post(CHANGE, headers={"Content-Type": kind}, content=b'{"k": 1}')
    assert found.status_code == 415
    assert "Content-Type: application/json" in found.json()["detail"]


def test_json_may_say_its_alphabet(client: TestClient) -> None:
    headers = {"Content-Type": "Application/JSON; charset=utf-8"}
    assert client.post(CHANGE, headers=headers, content=b'{"k": 1}').status_code == 200


def test_no_site_may_read_or_frame_what_is_answered(client: TestClient) -> None:
    asked = client.options(CHANGE, headers={"Origin": "https://evil.example", "Access-Control-Request-Method": "POST"})
    for found in (client.get("/"), client.get("/v1/users", headers={"Origin": "https://evil.example"}), asked):
        assert not any(name.startswith("access-control") for name in found.headers)
        assert found.headers["cross-origin-resource-policy"] == "same-origin"
        assert found.headers["x-frame-options"] == "DENY"
        assert "frame-ancestors 'none'" in found.headers["content-security-policy"]
        assert "unsafe" not in found.headers["content-security-policy"]


@pytest.fixture
def local(engine: Engine, tmp_path: Path) -> Iterator[TestClient]:
    """As `shortlist serve` has it: keys are needed once there are any."""
    app = make_app(engine, keys=KeyFile(tmp_path / "keys.json"), only_local=True)
    with TestClient(app, base_url="http://localhost") as client:
        yield client


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "10.0.0.1", "localhost.evil", "[", "", "@"])
def test_a_name_that_was_bound_anew_is_not_answered(local: TestClient, host: str) -> None:
    for path in ("/", "/v1/users", "/metrics"):
        found = local.get(path, headers={"Host": host})
        assert found.status_code == 421
        assert "localhost" in found.json()["detail"]


@pytest.mark.parametrize("host", ["localhost", "localhost:8000", "127.0.0.1:8000", "[::1]:8000", "LOCALHOST"])
def test_names_of_this_machine_are_answered(local: TestClient, host: str) -> None:
    assert local.get("/v1/users", headers={"Host": host}).status_code == 200


def test_with_keys_any_name_is_answered(local: TestClient, tmp_path: Path) -> None:
    key, _ = add_key(tmp_path / "keys.json", "shop", ("read",), now=lambda: datetime.now(UTC))
    headers = {"Host": "shop.example", "Authorization": f"Bearer {key}"}
    assert local.get("/v1/users", headers=headers).status_code == 200
    assert local.get("/v1/users", headers={"Host": "shop.example"}).status_code == 401


def test_a_fault_of_the_server_is_a_problem_with_every_header(
    client: TestClient, engine: Engine, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(Engine, "answer", lambda *_, **__: 1 / 0)
    with caplog.at_level(logging.ERROR):
        found = client.post(CHANGE, json={}, headers={"X-Request-ID": "r1"})
    assert found.status_code == 500
    assert found.json()["request_id"] == found.headers["x-request-id"] == "r1"
    assert "content-security-policy" in found.headers
    assert "request r1 failed" in caplog.text


def test_a_body_of_unknown_length_is_bounded(engine: Engine) -> None:
    with TestClient(make_app(engine, limits=Limits(body_bytes=1_000))) as client:
        headers = {"Content-Type": "application/json"}
        found = client.post(CHANGE, headers=headers, content=(b" " * 600 for _ in range(3)))
    assert found.status_code == 413
