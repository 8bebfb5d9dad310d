"""Metrics: what is counted, of all workers together, and nothing that a caller sends."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from prometheus_client.parser import text_string_to_metric_families

from forking import succeeds_in_child
from serving.engine import Engine
from serving.http.app import make_app
from serving.http.observing.metrics import CONTENT_TYPE, Metrics, part_and_reason, shared_by_workers, worker_ended
from serving.http.observing.seen import Answered, Seen
from serving.request import Answer, Hit

HIT = Hit("i1", "mug", 1.0, 1)


def seen(*answers: Answer, route: str = "/v1/search", status: int = 200, events: int = 0) -> Seen:
    told = [Answered("search", answer) for answer in answers]
    return Seen("r1", "POST", route, status, 0.02, 1_000.0, told, events)


def values(text: bytes, name: str, **labels: str) -> list[float]:
    """The values of a metric's samples that have some labels."""
    samples = [sample for family in text_string_to_metric_families(text.decode()) for sample in family.samples]
    return [one.value for one in samples if one.name == name and labels.items() <= one.labels.items()]


def test_answers_are_counted_by_what_became_of_them() -> None:
    metrics = Metrics()
    cut = ("rerank, full model: 2 of 30 places", "text and history models: failed", "rerank: queue full")
    metrics.ended(seen(Answer((), "r", fallbacks=("popular items", "a recommendation"), degraded=cut)))
    metrics.ended(seen(Answer((HIT,), "r", timings_ms={"encode": 3.0})))
    text = metrics.text(None)
    assert values(text, "shortlist_answers_total", task="search") == [2]
    assert values(text, "shortlist_empty_answers_total") == [1]
    assert values(text, "shortlist_degraded_answers_total") == [1]
    assert values(text, "shortlist_fallback_answers_total") == [1]
    assert values(text, "shortlist_fallbacks_total", fallback="popular items") == [1]
    assert values(text, "shortlist_degraded_total", part="rerank", reason="fewer places") == [1]
    assert values(text, "shortlist_degraded_total", part="rerank", reason="queue full") == [1]
    assert values(text, "shortlist_stage_seconds_bucket", stage="encode", task="search", le="0.0025") == [0]
    assert values(text, "shortlist_stage_seconds_bucket", stage="encode", task="search", le="0.005") == [1]
    assert values(text, "shortlist_request_seconds_sum", route="/v1/search") == [pytest.approx(0.04)]


def test_every_way_out_of_a_stage_has_a_label_of_its_own() -> None:
    assert part_and_reason("retrieval, so popular items: no time") == ("retrieval, so popular items", "no time")
    assert part_and_reason("sources beside the towers: failed") == ("sources beside the towers", "failed")
    assert part_and_reason("what nobody knows: 12345") == ("other", "other")


def test_labels_are_few_whatever_callers_send() -> None:
    metrics = Metrics()
    before = metrics.text(None).count(b"\n")
    for number in range(200):
        answer = Answer((HIT,), f"r{number}", fallbacks=(f"x{number}",), degraded=(f"y{number}: {number}",))
        metrics.ended(Seen(f"id{number}", f"M{number}", "other", 404, 0.01, 1.0, [Answered("search", answer)]))
    assert metrics.text(None).count(b"\n") < before + 60


def test_workers_add_up_and_one_that_ended_has_nothing_running() -> None:
    with shared_by_workers() as folder:
        metrics = Metrics()

        def work() -> None:
            metrics.ended(seen(Answer((HIT,), "r"), events=3))
            metrics.queue(2, 1)

        for _ in range(2):
            assert succeeds_in_child(work)
        text = metrics.text(None)
        assert values(text, "shortlist_answers_total", task="search") == [2]
        assert values(text, "shortlist_events_recorded_total") == [6]
        assert values(text, "shortlist_queue", state="running") == [4]
        dead = [int(file.stem.rpartition("_")[2]) for file in folder.glob("gauge_*.db")]
        for process in dead:
            worker_ended(process)
        text = metrics.text(None)
        assert values(text, "shortlist_queue", state="running") == []
        assert values(text, "shortlist_answers_total", task="search") == [2]
    assert not folder.exists()
    assert "PROMETHEUS_MULTIPROC_DIR" not in os.environ
    assert values(Metrics().text(None), "shortlist_events_recorded_total") == [0]


@pytest.fixture
def client(bundle_path: Path, tmp_path: Path) -> Iterator[TestClient]:
    with (
        Engine.open(bundle_path, device="cpu", events=tmp_path / "events.sqlite") as engine,
        TestClient(make_app(engine)) as client,
    ):
        yield client


def test_a_server_tells_its_metrics(client: TestClient) -> None:
    event = {"user_id": "ann", "item_id": "item-00001", "event": "view", "event_id": "e1"}
    assert client.post("/v1/events", json={"events": [event, event]}).json()["new"] == 1
    client.post("/v1/recommend", json={"user_id": "ann"})
    client.post("/v1/batch", json={"requests": [{"task": "search", "query": "red mug"}, {"task": "recommend"}]})
    client.get("/v1/users/somebody")
    client.get("/no/such/thing")
    found = client.get("/metrics")
    assert found.headers["content-type"] == CONTENT_TYPE
    assert found.headers["cache-control"] == "no-store"
    text = found.content
    assert values(text, "shortlist_events_recorded_total") == [1]
    assert values(text, "shortlist_answers_total", task="recommend") == [2]
    assert values(text, "shortlist_answers_total", task="search") == [1]
    assert values(text, "shortlist_requests_total", route="/v1/users/{user_id}", method="GET", status="200") == [1]
    assert values(text, "shortlist_requests_total", route="other", status="404") == [1]
    assert values(text, "shortlist_queue", state="waiting") == [0]
    for personal in (b"ann", b"somebody", b"mug", b"such", b"testclient"):
        assert personal not in text


def test_the_release_and_the_age_of_its_index_are_told(engine: Engine) -> None:
    built = (engine.state.version.folder / "manifest.json").stat().st_mtime
    text = Metrics().text(engine.state, now=built + 90)
    assert values(text, "shortlist_release_info", release=engine.release.id) == [1]
    assert values(text, "shortlist_index_age_seconds") == [pytest.approx(90, abs=0.01)]
    assert values(text, "shortlist_index_revision") == [0]
    assert len(values(text, "shortlist_release_age_seconds")) == 1


def test_what_answers_is_told_though_its_files_are_pruned(own_bundle: Path) -> None:
    with Engine.open(own_bundle, device="cpu") as engine:
        state = engine.state
        (state.version.folder / "manifest.json").unlink()
        text = Metrics().text(state)
    assert values(text, "shortlist_release_info", release=state.release.id) == [1]
    assert values(text, "shortlist_index_age_seconds") == []


def test_an_update_makes_an_index_young(own_bundle: Path) -> None:
    with Engine.open(own_bundle, device="cpu") as engine, TestClient(make_app(engine)) as client:
        from indexing.bundle.bundle import Bundle
        from serving.http.live_items import LiveItems

        client.app.state.live_items = LiveItems(Bundle.open(own_bundle), engine)  # type: ignore[attr-defined]
        manifest = engine.state.version.folder / "manifest.json"
        os.utime(manifest, (1_000, 1_000))
        assert values(client.get("/metrics").content, "shortlist_index_age_seconds")[0] > 1e9
        assert client.delete("/v1/items/item-00001").status_code == 200
        text = client.get("/metrics").content
    assert values(text, "shortlist_index_revision") == [1]
    assert values(text, "shortlist_index_age_seconds")[0] < 1e6
