"""Events in Redis: engines on several machines, a server that is killed, and one that is away."""

from __future__ import annotations

from pathlib import Path

import pytest

from live_events import event
from redis_server import redis_server
from retrieval.data.dataset import DataSet
from retrieval.errors import BadBundle, BadRequest
from serving.engine import Engine
from serving.live.opening import open_store


def test_engines_with_one_store_answer_alike(place: str, bundle_path: Path, own_bundle: Path, data: DataSet) -> None:
    with (
        Engine.open(own_bundle, device="cpu", events=place) as one,
        Engine.open(bundle_path, device="cpu", events=place) as other,
    ):
        assert one.record("ann", data.item_ids[3], "purchase", query="red mug")
        assert other.recommend(user_id="ann").fallbacks == ()
        assert other.recommend(user_id="ann").items == one.recommend(user_id="ann").items
        again = {"user_id": "ann", "item_id": data.item_ids[3], "event": "view", "event_id": "x"}
        assert other.record_many([again, again]) == 1
        assert one.forget("ann").left == ()
        assert len(other.state.user_contexts.of_user("ann").behaviour.history.rows) == 0


def test_what_a_killed_server_acknowledged_is_there_when_it_is_back(tmp_path: Path) -> None:
    options = ("--appendonly", "yes", "--appendfsync", "always")
    with redis_server(tmp_path, *options) as (url, server):
        store = open_store(url)
        assert store.append([event(1), event(2, "bob")]) == 2
        server.kill()
        server.wait()
        with pytest.raises(BadBundle, match="does not answer"):
            store.append([event(3)])
    with redis_server(tmp_path, *options):
        assert [stored.event for stored in store.since(0, 10)] == [event(1), event(2, "bob")]
        assert store.append([event(2, "bob"), event(3)]) == 1
        store.close()


def test_a_password_is_in_no_error() -> None:
    store = open_store("redis://name:secret@127.0.0.1:1/0")
    with pytest.raises(BadBundle) as error:
        store.append([event(1)])
    assert "secret" not in str(error.value)
    assert "redis://127.0.0.1:1/0" in str(error.value)


def test_what_is_no_url_is_refused() -> None:
    with pytest.raises(BadRequest, match="no URL of Redis"):
        open_store("redis://host:port")
