"""Requests that switch merchandising rules off."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from ruled import ruled
from serving.engine import Engine
from serving.http.app import make_app
from serving.http.keys import KeyFile, add_key

SEARCH = {"query": "soap", "k": 5}


@pytest.fixture(scope="module")
def first(engine: Engine) -> str:
    """What a search finds first without any rule."""
    return engine.search("soap", k=5).items[0].item_id


@pytest.fixture(scope="module")
def ruled_engine(engine: Engine, first: str) -> Engine:
    return ruled(engine, f'version = "v1"\nkind = "block"\nitems = ["{first}"]')


@pytest.fixture
def client(ruled_engine: Engine) -> Iterator[TestClient]:
    with TestClient(make_app(ruled_engine)) as client:
        yield client


@pytest.fixture
def key(ruled_engine: Engine, tmp_path: Path) -> Iterator[Callable[..., TestClient]]:
    """A client with a key of some scopes."""
    keys = tmp_path / "keys.json"
    with TestClient(make_app(ruled_engine, keys=KeyFile(keys))) as client:

        def with_key(*scopes: Any) -> TestClient:
            made, _ = add_key(keys, "-".join(scopes), scopes, now=lambda: datetime(2026, 1, 2, tzinfo=UTC))
            client.headers["Authorization"] = f"Bearer {made}"
            return client

        yield with_key


def ids(answer: dict[str, Any]) -> list[str]:
    return [item["item_id"] for item in answer["items"]]


def test_a_blocked_item_comes_back_where_rules_are_off_and_the_answer_names_no_rules(
    client: TestClient, first: str
) -> None:
    with_rules = client.post("/v1/search", json=SEARCH).json()
    without = client.post("/v1/search", json={**SEARCH, "rules": False}).json()
    assert first not in ids(with_rules)
    assert ids(without)[0] == first
    assert (with_rules["rules"], without["rules"]) == ("v1", "")


def test_requests_of_one_batch_may_differ(client: TestClient, first: str) -> None:
    asked = [{"task": "search", **SEARCH, "rules": rules} for rules in (True, False, True)]
    found = client.post("/v1/batch", json={"requests": asked}).json()["answers"]
    assert [first in ids(answer) for answer in found] == [False, True, False]


def test_why_not_and_explain_read_the_switch_too(client: TestClient, first: str) -> None:
    def stage(rules: bool) -> str:
        body = {"request": {"task": "search", **SEARCH, "rules": rules}, "item_id": first}
        return str(client.post("/v1/why-not", json=body).json()["stage"])

    assert stage(True) != "answered"
    assert stage(False) == "answered"
    explained = client.post("/v1/explain", json={"request": {"task": "search", **SEARCH, "rules": False}}).json()
    assert ids(explained)[0] == first


def test_a_cursor_goes_on_without_rules_and_is_refused_with_them(client: TestClient, first: str) -> None:
    body = {**SEARCH, "k": 2, "rules": False}
    one = client.post("/v1/search", json=body).json()
    two = client.post("/v1/search", json={**body, "cursor": one["next_cursor"]}).json()
    assert ids(one) + ids(two) == ids(client.post("/v1/search", json={**body, "k": 4}).json())
    refused = client.post("/v1/search", json={**body, "rules": True, "cursor": one["next_cursor"]})
    assert refused.status_code == 400


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/search", {**SEARCH, "rules": False}),
        ("/v1/recommend", {"rules": False}),
        ("/v1/batch", {"requests": [{"task": "recommend"}, {"task": "recommend", "rules": False}]}),
        ("/v1/explain", {"request": {"task": "recommend", "rules": False}}),
        ("/v1/why-not", {"request": {"task": "recommend", "rules": False}, "item_id": "item-00001"}),
    ],
)
def test_a_key_without_the_scope_admin_cannot_switch_rules_off(
    key: Callable[..., TestClient], path: str, body: dict[str, Any]
) -> None:
    refused = key("read").post(path, json=body)
    assert refused.status_code == 403
    assert "admin" in refused.json()["detail"]
    assert key("read", "admin").post(path, json=body).status_code == 200
