"""The last minute: of all workers, of resources alone, and without anything of who asked."""

from __future__ import annotations

import numpy as np
import pytest
from fastapi.testclient import TestClient

from forking import succeeds_in_child
from serving.engine import Engine
from serving.http.app import make_app
from serving.http.observing.recent import BUCKETS, LAST, Recent, bucket, quantile
from serving.http.observing.seen import Answered, Seen
from serving.request import Answer, Hit

HIT = Hit("i1", "mug", 1.0, 1)


class Clock:
    """Seconds since 1970 that a test sets."""

    def __init__(self, now: float) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


def seen(
    at: float, ms: float = 10.0, *, items: int = 1, degraded: tuple[str, ...] = (), route: str = "/v1/search"
) -> Seen:
    answer = Answer((HIT,) * items, "r1", timings_ms={"encode": 1.0}, degraded=degraded)
    return Seen("r", "POST", route, 200, ms / 1_000, at, [Answered("search", answer)])


def test_before_any_request_nothing_is_told() -> None:
    clock = Clock(1_000.0)
    told = Recent(2, clock).now()
    assert told == {
        "window_s": 1.0, "requests_per_s": 0.0, "p50_ms": 0.0, "p99_ms": 0.0, "degraded": 0.0, "empty": 0.0,
        "recent": [],
    }  # fmt: skip


def test_rates_and_shares_are_those_of_the_last_minute() -> None:
    clock = Clock(1_000.0)
    recent = Recent(1, clock)
    worker = recent.of_worker(0)
    for second in range(200):
        cut = () if second % 4 else ("rerank: failed",)
        ms = 10.0 if second < 190 else 500.0
        worker.ended(seen(1_000.0 + second, ms, items=second % 2, degraded=cut))
    clock.now = 1_199.5
    told = recent.now()
    assert told["window_s"] == 60
    assert told["requests_per_s"] == 1
    assert (told["degraded"], told["empty"]) == (0.25, 0.5)
    assert told["p50_ms"] == pytest.approx(10, rel=0.03)
    assert told["p99_ms"] == pytest.approx(500, rel=0.03)
    clock.now = 1_300.0
    assert recent.now()["requests_per_s"] == 0


def test_a_server_that_just_started_is_not_told_to_be_idle() -> None:
    clock = Clock(1_000.0)
    recent = Recent(1, clock)
    for _ in range(20):
        recent.of_worker(0).ended(seen(1_001.0))
    clock.now = 1_002.0
    assert recent.now()["requests_per_s"] == 10


def test_the_last_requests_are_told_newest_first() -> None:
    clock = Clock(1_100.0)
    recent = Recent(1, clock)
    worker = recent.of_worker(0)
    for number in range(LAST + 20):
        worker.ended(seen(1_000.0 + number))
    told = recent.now()["recent"]
    assert [one["at"] for one in told] == [1_000.0 + number for number in range(LAST + 19, 19, -1)]
    assert told[0] == {
        "at": 1_069.0, "task": "search", "status": 200, "ms": 10.0, "items": 1, "degraded": [], "reranked": [],
        "release": "r1", "timings_ms": {"encode": 1.0},
    }  # fmt: skip


def test_workers_are_told_together() -> None:
    clock = Clock(1_010.0)
    recent = Recent(2, clock)
    for number in range(2):
        assert succeeds_in_child(lambda number=number: recent.of_worker(number).ended(seen(1_005.0 + number)))  # type: ignore[misc]
    told = recent.now()
    assert [one["at"] for one in told["recent"]] == [1_006.0, 1_005.0]
    assert told["requests_per_s"] == 2


def test_a_record_that_is_half_written_is_left_out() -> None:
    clock = Clock(1_010.0)
    recent = Recent(1, clock)
    recent.of_worker(0).ended(seen(1_005.0))
    recent._records[20] ^= 1
    assert recent.now()["recent"] == []


def test_a_record_that_is_too_long_leaves_something_out() -> None:
    clock = Clock(1_010.0)
    recent = Recent(1, clock)
    recent.of_worker(0).ended(seen(1_005.0, degraded=tuple(f"rerank, {n} model: 1 of 30 places" for n in range(99))))
    (told,) = recent.now()["recent"]
    assert len(told["degraded"]) == 3


def test_quantiles_are_right_within_a_twentieth() -> None:
    told = np.random.default_rng(7).lognormal(2.0, 1.0, 5_000)
    counts = np.bincount([bucket(ms) for ms in told], minlength=BUCKETS)
    for share in (0.5, 0.9, 0.99):
        assert quantile(counts, share) == pytest.approx(np.quantile(told, share), rel=0.05)


def test_what_the_page_asks_for_itself_is_not_counted(engine: Engine) -> None:
    with TestClient(make_app(engine)) as client:
        for path in ("/", "/page/app.js", "/v1/now", "/metrics", "/healthz", "/readyz", "/openapi.json", "/nothing"):
            client.get(path)
        assert client.get("/v1/now").json()["recent"] == []
        client.post("/v1/recommend", json={"user_id": "ann-secret", "k": 2})
        client.post("/v1/batch", json={"requests": [{"task": "search", "query": "hidden query", "k": 1}] * 3})
        client.post("/v1/recommend", json={"k": 0})
        found = client.get("/v1/now")
    told = found.json()
    assert [(one["task"], one["status"], one["items"]) for one in told["recent"]] == [
        ("recommend", 400, 0), ("batch", 200, 3), ("recommend", 200, 2)
    ]  # fmt: skip
    assert all(set(one["timings_ms"]) >= {"encode", "describe"} for one in told["recent"][1:])
    assert found.headers["cache-control"] == "no-store"
    for personal in ("ann-secret", "hidden query", "testclient"):
        assert personal not in found.text
