"""Events, items, shoppers, rules and releases over HTTP."""

from __future__ import annotations

import json
import math
import shutil
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from indexing.bundle.bundle import Bundle
from retrieval.data.dataset import DataSet
from serving.engine import Engine
from serving.http.answers import Cursor
from serving.http.app import make_app
from serving.http.as_json import as_json
from serving.http.keys import KeyFile, add_key


def event(data: DataSet, **more: Any) -> dict[str, Any]:
    assert data.events is not None
    kind = next(kind for kind in data.events.kinds if "purchase" in kind)
    return {"user_id": "ann/..", "item_id": data.item_ids[0], "event": kind, "timestamp": 1_700_000_000, **more}


def test_an_event_is_kept_once_and_is_in_the_history_until_it_is_forgotten(own_http: TestClient, data: DataSet) -> None:
    one = event(data, event_id="e1")
    assert own_http.post("/v1/events", json=one).json() == {"received": 1, "new": 1}
    assert own_http.post("/v1/events", json={"events": [one, event(data, event_id="e2")]}).json() == {
        "received": 2,
        "new": 1,
    }
    path = "/v1/users/ann%2F.."
    told = own_http.get(path, params={"k": 1})
    assert told.headers["cache-control"] == "no-store"
    assert told.json()["user_id"] == "ann/.."
    assert [(one["item_id"], one["time"]) for one in told.json()["events"]] == [(data.item_ids[0], 1_700_000_000)]
    removed = own_http.delete(path).json()
    assert any("2 recorded events" in line for line in removed["removed"])
    assert own_http.get(path).json()["events"] == []


@pytest.mark.parametrize(
    "wrong",
    [
        {"price": -1},
        {"price": 1e31},
        {"timestamp": "tomorrow"},
        {"timestamp": 9e99},
        {"user_id": " "},
        {"item_id": "a\0b"},
        {"query": "x" * 10_001},
        {"colour": "red"},
    ],
)
def test_of_several_events_all_are_kept_or_none(own_http: TestClient, data: DataSet, wrong: dict[str, Any]) -> None:
    refused = own_http.post("/v1/events", json={"events": [event(data), event(data, **wrong)]})
    assert refused.status_code == 400
    assert own_http.get("/v1/users/ann%2F..").json()["events"] == []


def test_an_item_is_added_found_and_deleted(own_http: TestClient) -> None:
    new = {"item_id": "new/1", "title": "Zyxwv desk", "price": 12.5, "in_stock": True, "category": ["Desks"]}
    told = own_http.post("/v1/items", json={"upsert": [new], "delete": ["no such item"]}).json()
    assert (told["upserted"], told["new"], told["deleted"], told["unknown"], told["number"]) == (1, 1, 0, 1, 1)
    found = own_http.post("/v1/search", json={"query": "zyxwv desk", "filters": "price = 12.5"}).json()
    assert (found["items"][0]["item_id"], found["index_revision"]) == ("new/1", 1)
    assert own_http.get("/v1/items", params={"id": ["nobody", "new/1"]}).json()["items"][0]["price"] == 12.5
    assert own_http.delete("/v1/items/new%2F1").json()["deleted"] == 1
    again = own_http.delete("/v1/items/new%2F1")
    assert again.status_code == 404
    assert "GET /v1/items" in again.json()["detail"]


@pytest.mark.parametrize(
    ("body", "status", "told"),
    [
        ({}, 400, "nothing to change"),
        ({"upsert": [{"item_id": "a"}]}, 422, "title"),
        ({"upsert": [{"title": "Desk"}]}, 422, "item_id"),
        ({"upsert": [{"item_id": "a", "title": "x"}, {"item_id": "b", "title": 3}]}, 422, "one type"),
        ({"upsert": [{"item_id": "a", "title": {"x": [{}]}}]}, 422, "one type"),
        ({"upsert": [{"item_id": "a", "title": "x", "price": "dear"}]}, 422, "price"),
        ({"upsert": [{"item_id": "a", "title": "x", "price": 10**400}]}, 422, ""),
        ({"upsert": [{"item_id": "a", "title": "x", "price": 10**300}]}, 422, ""),
        ({"upsert": [{"item_id": "a", "title": "x"}] * 1_001}, 400, "1,001"),
        ({"delete": [""]}, 400, "delete"),
    ],
)
def test_items_that_the_index_cannot_have_are_refused(
    own_http: TestClient, body: dict[str, Any], status: int, told: str
) -> None:
    found = own_http.post("/v1/items", json=body)
    assert found.status_code == status
    assert told in found.json()["detail"]
    assert "/tmp" not in found.text  # no folder of the server
    assert own_http.post("/v1/search", json={"query": "desk"}).json()["index_revision"] == 0


def test_shoppers_are_found_by_the_beginning_of_their_ids(http: TestClient) -> None:
    found = http.get("/v1/users", params={"prefix": "shopper-0000", "k": 3}).json()["users"]
    assert found == ["shopper-00000", "shopper-00001", "shopper-00002"]
    assert http.get("/v1/users", params={"prefix": "nobody"}).json() == {"users": []}


def test_rules_are_checked_with_the_line_of_each_fault(http: TestClient) -> None:
    told = http.post("/v1/rules/check", json={"toml": '[[rule]]\nname = "a"\nkind = "guess"\n'}).json()
    assert len(told["faults"]) == 1
    assert told["faults"][0].startswith("rules.toml:3:")
    assert "/tmp" not in json.dumps(told)


@pytest.mark.parametrize(
    "toml",
    ["", "x", "[[[", "[" * 5_000, "a." * 9_000 + "b = 1", "a = " + "[" * 50_000, "\0", "a = 1" * 9, "é = '\ud7ff'"],
)
def test_no_text_of_rules_makes_the_server_fail(http: TestClient, toml: str) -> None:
    assert http.post("/v1/rules/check", json={"toml": toml}).status_code == 200


def test_the_rules_in_force_are_told(own_bundle: Path) -> None:
    (own_bundle / "rules.toml").write_text('[[rule]]\nname = "in stock"\nkind = "in_stock"\n')
    with Engine.open(own_bundle, device="cpu") as engine:
        told = TestClient(make_app(engine), base_url="http://127.0.0.1").get("/v1/rules").json()
    assert [rule["name"] for rule in told["rules"]] == ["in stock"]
    assert (told["file"], told["error"]) == ("rules.toml", "")


def second_release(bundle: Path) -> str:
    """Publishes another release like the live one, and returns its id."""
    opened = Bundle.open(bundle)
    live = opened.current()
    draft = replace(live, id="20260202T000000-second", created="2026-02-02T00:00:00+00:00", parent=None, manifests={})
    return opened.publish(draft).id


def test_releases_are_told_made_live_and_rolled_back(own_http: TestClient, own_bundle: Path) -> None:
    first = own_http.get("/v1/releases").json()["live"]
    second = second_release(own_bundle)
    back = own_http.post("/v1/releases/rollback").json()
    assert back == {"live": first, "before": second, "answering": first}
    moved = own_http.post(f"/v1/releases/{second}/activate").json()
    assert moved == {"live": second, "before": first, "answering": second}
    assert own_http.post("/v1/recommend", json={}).json()["release"] == second
    told = own_http.get("/v1/releases").json()
    assert (told["live"], told["rollback_to"], told["answering"]) == (second, first, second)
    assert [one["release"] for one in told["releases"]] == [first, second]
    assert "by the server" in told["moves"][-1]["who"]


def test_a_move_names_the_key_that_it_was_made_with(own_engine: Engine, own_bundle: Path, tmp_path: Path) -> None:
    key, _ = add_key(tmp_path / "keys.json", "night shift", ["read", "admin"], now=lambda: datetime.now(UTC))
    app = make_app(own_engine, Bundle.open(own_bundle), keys=KeyFile(tmp_path / "keys.json"))
    http = TestClient(app, base_url="http://127.0.0.1", headers={"Authorization": f"Bearer {key}"})
    second_release(own_bundle)
    assert http.post("/v1/releases/rollback").status_code == 200
    assert http.get("/v1/releases").json()["moves"][-1]["who"] == "night shift, by the server"


def test_a_release_that_is_not_there_is_404_and_nothing_to_go_back_to_409(own_http: TestClient) -> None:
    found = own_http.post("/v1/releases/nothing/activate")
    assert (found.status_code, "GET /v1/releases" in found.json()["detail"]) == (404, True)
    assert own_http.post("/v1/releases/rollback").status_code == 409


def test_a_damaged_release_is_not_made_live(own_http: TestClient, own_bundle: Path) -> None:
    second = second_release(own_bundle)
    first = own_http.post("/v1/releases/rollback").json()["live"]
    opened = Bundle.open(own_bundle)
    part = next(one for one in opened.releases() if one.id == second)
    assert part.shoppers is not None
    target = next(path for path in sorted((own_bundle / "shoppers" / part.shoppers).iterdir()) if path.is_file())
    copy = target.with_name("copy")
    shutil.copy(target, copy)
    copy.replace(target)  # no hard link of another part is changed
    target.write_bytes(target.read_bytes()[:-1] + b"?")
    found = own_http.post(f"/v1/releases/{second}/activate")
    assert found.status_code == 503
    assert found.json()["error"] == "CorruptBundle"
    assert own_http.get("/v1/releases").json()["live"] == first


def test_a_cursor_stays_on_its_release_until_that_is_gone(own_http: TestClient, own_bundle: Path) -> None:
    asked = {"user_id": "shopper-00001", "k": 3}
    whole = own_http.post("/v1/recommend", json={**asked, "k": 6}).json()
    first = own_http.post("/v1/recommend", json=asked).json()
    for number in range(2):
        second = second_release(own_bundle) if number == 0 else first["release"]
        own_http.post(f"/v1/releases/{second}/activate")
        assert own_http.post("/v1/recommend", json=asked).json()["release"] == second
        more = own_http.post("/v1/recommend", json={**asked, "cursor": first["next_cursor"]}).json()
        assert more["release"] == first["release"]
        assert [hit["item_id"] for hit in first["items"] + more["items"]] == [hit["item_id"] for hit in whole["items"]]


def test_a_cursor_of_a_release_that_is_not_open_is_410(own_http: TestClient) -> None:
    told = own_http.post("/v1/recommend", json={"k": 3}).json()
    cursor = Cursor.of(told["next_cursor"])._replace(release="20200101T000000-gone")
    found = own_http.post("/v1/recommend", json={"k": 3, "cursor": cursor.token()})
    assert found.status_code == 410
    assert "without a cursor" in found.json()["detail"]


def test_a_cursor_does_not_lead_back_to_a_release_that_holds_a_shopper_who_was_forgotten(own_http: TestClient) -> None:
    asked = {"user_id": "shopper-00002", "k": 3}
    cursor = own_http.post("/v1/recommend", json=asked).json()["next_cursor"]
    assert own_http.post("/v1/recommend", json={**asked, "cursor": cursor}).status_code == 200
    removed = own_http.delete("/v1/users/shopper-00002").json()["removed"]
    assert any(line.startswith("shoppers/") for line in removed)  # without the folder of the bundle
    assert own_http.post("/v1/recommend", json={**asked, "cursor": cursor}).status_code == 410


def test_a_cursor_of_another_worker_is_known_where_that_release_answers(http: TestClient, engine: Engine) -> None:
    cursor = http.post("/v1/recommend", json={"k": 3}).json()["next_cursor"]
    other = TestClient(make_app(engine), base_url="http://127.0.0.1")  # which has answered nothing yet
    assert other.post("/v1/recommend", json={"k": 3, "cursor": cursor}).status_code == 200


def test_a_number_that_is_none_is_null() -> None:
    assert (
        as_json({"a": [math.nan, {"b": math.inf}], "c": (1.5, "é")})
        == b'{"a": [null, {"b": null}], "c": [1.5, "\\u00e9"]}'
    )
