"""Recommendations, searches, similar items, carts and batches over HTTP: what the engine answers, once more."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from typing import Any

import pytest
from fastapi.testclient import TestClient

from retrieval.data.dataset import DataSet
from serving.engine import Engine
from serving.http.app import GZIP_FROM
from serving.request import Answer

UNTIMED = {"timings_ms", "next_cursor"}


def lasting(told: dict[str, Any]) -> dict[str, Any]:
    """An answer but for how long it took."""
    return {name: value for name, value in told.items() if name not in UNTIMED}


ASKED: dict[str, tuple[dict[str, Any], Callable[[Engine], Answer]]] = {
    "recommend": ({"user_id": "shopper-00001", "k": 4}, lambda engine: engine.recommend(user_id="shopper-00001", k=4)),
    "search": (
        {"query": "red mug", "filters": [["price", "<", 50]], "explain": True},
        lambda engine: engine.search("red mug", filters=[("price", "<", 50)], explain=True),
    ),
    "similar": ({"item_id": "item-00003", "k": 3}, lambda engine: engine.similar("item-00003", k=3)),
    "cart": (
        {"items": ["item-00003", "item-00009"], "diversity": 0.4},
        lambda engine: engine.complete_cart(["item-00003", "item-00009"], diversity=0.4),
    ),
}


@pytest.mark.parametrize("task", ASKED)
def test_the_answer_is_that_of_the_engine(http: TestClient, engine: Engine, task: str) -> None:
    body, expected = ASKED[task]
    found = http.post(f"/v1/{task}", json=body)
    assert found.status_code == 200
    assert found.headers["content-type"] == "application/json"
    assert found.headers["cache-control"] == "no-store"
    assert lasting(found.json()) == lasting(json.loads(json.dumps(expected(engine).to_dict())))


def test_a_batch_answers_each_request_as_it_is_answered_alone(http: TestClient) -> None:
    requests = [
        {"task": "complete_cart" if task == "cart" else task, **body} for task, (body, _) in ASKED.items()
    ]  # fmt: skip
    together = http.post("/v1/batch", json={"requests": requests}).json()["answers"]
    alone = [http.post(f"/v1/{task}", json=body).json() for task, (body, _) in ASKED.items()]
    assert list(map(lasting, together)) == list(map(lasting, alone))


def test_a_language_adds_notes_and_says_reasons_in_it(http: TestClient) -> None:
    asked = {"user_id": "nobody", "explain": True, "language": "zh"}
    told = http.post("/v1/recommend", json=asked).json()
    assert told["notes"]
    assert told["items"][0]["explanation"]["reasons"] == ["本周热门"]
    assert told["items"][0]["explanation"]["reason_keys"][0]["key"].startswith("why.")


def test_explain_answers_as_the_request_does_with_reasons(http: TestClient) -> None:
    asked = {"task": "search", "query": "red mug", "k": 3}
    told = http.post("/v1/explain", json={"request": asked}).json()
    assert all(hit["explanation"]["reasons"] for hit in told["items"])
    plain = http.post("/v1/search", json={"query": "red mug", "k": 3}).json()
    assert [hit["item_id"] for hit in told["items"]] == [hit["item_id"] for hit in plain["items"]]


def test_pages_by_cursor_are_the_parts_of_a_longer_answer(http: TestClient) -> None:
    asked = {"user_id": "shopper-00002", "k": 7}
    whole = http.post("/v1/recommend", json={**asked, "k": 21}).json()["items"]
    found: list[Any] = []
    cursor = None
    for _ in range(3):
        told = http.post("/v1/recommend", json={**asked, "cursor": cursor}).json()
        found, cursor = [*found, *told["items"]], told["next_cursor"]
    assert [hit["item_id"] for hit in found] == [hit["item_id"] for hit in whole]


def test_nothing_follows_where_the_catalogue_ends(http: TestClient, data: DataSet) -> None:
    told = http.post("/v1/recommend", json={"k": data.n_items + 1, "filter_seen": False}).json()
    assert len(told["items"]) == data.n_items
    assert told["next_cursor"] is None


@pytest.mark.parametrize(
    "cursor", ["", "x", "é", "W10=", "WzEsMSwxLDFd", "WyJhIiwxLEluZmluaXR5LCJiIl0=", "\udc80", "A" * 2_000]
)
def test_what_is_no_cursor_is_refused(http: TestClient, cursor: str) -> None:
    found = http.post(
        "/v1/recommend", content=json.dumps({"cursor": cursor}), headers={"Content-Type": "application/json"}
    )
    assert found.status_code == 400
    assert "cursor" in found.json()["detail"]


def test_a_cursor_of_another_request_is_refused(http: TestClient) -> None:
    cursor = http.post("/v1/recommend", json={"user_id": "shopper-00002", "k": 3}).json()["next_cursor"]
    for other in ({"user_id": "shopper-00003", "k": 3}, {"user_id": "shopper-00002", "k": 4}):
        found = http.post("/v1/recommend", json={**other, "cursor": cursor})
        assert found.status_code == 400
        assert "another request" in found.json()["detail"]
    refused = http.post("/v1/batch", json={"requests": [{"task": "recommend", "k": 3, "cursor": cursor}]})
    assert refused.status_code == 400


@pytest.mark.parametrize("path", ["/v1/search?query=red%20mug&k=4", "/v1/similar?item_id=item-00003&k=4"])
def test_what_a_caller_has_already_is_not_sent_again(http: TestClient, path: str) -> None:
    first = http.get(path)
    tag = first.headers["etag"]
    assert first.status_code == 200
    assert first.headers["cache-control"].startswith("private, max-age=")
    for known in (tag, tag.removeprefix("W/"), f'"other", {tag}', "*"):
        again = http.get(path, headers={"If-None-Match": known})
        assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", tag)
    assert http.get(path, headers={"If-None-Match": '"other"'}).status_code == 200
    assert http.get(path.replace("k=4", "k=5")).headers["etag"] != tag


def test_head_is_get_without_a_body(http: TestClient) -> None:
    for path in ("/healthz", "/v1/search?query=mug", "/readyz"):
        found, whole = http.head(path), http.get(path)
        assert (found.status_code, found.content) == (200, b"")
        assert found.headers["content-type"] == whole.headers["content-type"]


def test_long_answers_are_compressed_for_who_asks(http: TestClient) -> None:
    with http.stream("POST", "/v1/recommend", json={"k": 100}, headers={"Accept-Encoding": "gzip"}) as found:
        told = b"".join(found.iter_raw())
        assert found.headers["content-encoding"] == "gzip"
        assert "accept-encoding" in found.headers["vary"].lower()
    assert len(gzip.decompress(told)) > GZIP_FROM
    plain = http.post("/v1/recommend", json={"k": 100}, headers={"Accept-Encoding": "identity"})
    assert "content-encoding" not in plain.headers
    assert lasting(json.loads(gzip.decompress(told))) == lasting(plain.json())


def test_why_an_item_is_not_answered_is_told_in_words_and_by_key(http: TestClient, engine: Engine) -> None:
    asked = {"request": {"task": "search", "query": "red mug", "k": 2, "language": "zh"}, "item_id": "no such item"}
    told = http.post("/v1/why-not", json=asked).json()
    assert told["stage"] == "unknown"
    assert told["reason_key"] == {"key": "why_not.unknown", "values": {"item": "no such item"}}
    assert told["reason"] != "no such item"
