"""The client alone: what it sends, when it sends it again, and what it makes of errors."""

from __future__ import annotations

import asyncio
import inspect
import json
from collections.abc import Callable, Sequence
from typing import Any

import httpx
import pytest

from retrieval.errors import (
    BadBundle,
    BadConfig,
    BadData,
    BadRequest,
    CorruptBundle,
    GateRefused,
    MissingDependency,
    ShortlistError,
    StaleArtefact,
)
from serving.client import AsyncClient, Client, ServerError
from serving.client import synchronous as sending
from serving.request import Request

ANSWER: dict[str, Any] = {
    "items": [],
    "release": "r1",
    "index_revision": 0,
    "fallbacks": [],
    "degraded": [],
    "corrected_query": "",
    "also_searched": "",
    "reranked": [],
    "rules": "",
    "timings_ms": {},
    "next_cursor": None,
}
Reply = httpx.Response | Exception


class Server:
    """Answers with replies in turn, the last one for ever, and keeps what was asked."""

    def __init__(self, *replies: Reply) -> None:
        self.replies, self.asked = list(replies), list[httpx.Request]()

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(request)
        reply = self.replies.pop(0) if len(self.replies) > 1 else self.replies[0]
        if isinstance(reply, Exception):
            raise reply
        return reply

    def bodies(self) -> list[Any]:
        return [json.loads(request.content) for request in self.asked]


def client(server: Server, **options: Any) -> Client:
    return Client("http://shop", transport=httpx.MockTransport(server), **options)


def ok(**told: Any) -> httpx.Response:
    return httpx.Response(200, json=told)


def problem(status: int, headers: dict[str, str] | None = None, **told: Any) -> httpx.Response:
    return httpx.Response(status, json={"status": status, "request_id": "r7", **told}, headers=headers)


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Seconds that were waited for, without waiting."""
    found: list[float] = []
    monkeypatch.setattr(sending.time, "sleep", found.append)
    return found


@pytest.mark.parametrize("status", [429, 503])
def test_a_full_server_is_asked_again_when_it_says_so(waits: list[float], status: int) -> None:
    server = Server(problem(status, {"Retry-After": "2"}), problem(status, {"Retry-After": "99"}), ok(**ANSWER))
    assert client(server, longest_wait=5.0).recommend().release == "r1"
    assert waits == [2.0, 5.0]
    assert len({request.content for request in server.asked}) == 1


def test_a_server_that_stays_full_is_given_up(waits: list[float]) -> None:
    server = Server(problem(429, {"Retry-After": "1"}, detail="full; come again"))
    with pytest.raises(ServerError, match=r"429: full; come again \(request r7\)") as raised:
        client(server, retries=2).recommend()
    assert (len(server.asked), waits) == (3, [1.0, 1.0])
    assert (raised.value.status, raised.value.detail, raised.value.request_id) == (429, "full; come again", "r7")


@pytest.mark.parametrize("headers", [{}, {"Retry-After": "Wed, 21 Oct 2026 07:28:00 GMT"}, {"Retry-After": "-1"}])
def test_what_does_not_say_when_is_not_asked_again(waits: list[float], headers: dict[str, str]) -> None:
    server = Server(problem(503, headers, error="BadBundle", detail="damaged; restore it"))
    with pytest.raises(BadBundle, match="damaged"):
        client(server).recommend()
    assert (len(server.asked), waits) == (1, [])


def test_what_may_be_repeated_is_sent_again_where_a_connection_fails(waits: list[float]) -> None:
    server = Server(httpx.ReadError("reset"), httpx.RemoteProtocolError("gone"), ok(received=2, new=2))
    events = [{"user_id": "ann", "item_id": item, "event": "view"} for item in ("mug", "jug")]
    assert client(server).record_many(events) == 2
    first, *others = server.bodies()
    assert others == [first, first]  # with the same ids, so that each event is kept once
    ids = [event["event_id"] for event in first["events"]]
    assert len(set(ids)) == 2
    assert len(waits) == 2
    assert all(0 < wait < 1 for wait in waits)


def test_what_may_not_be_repeated_is_not_sent_again_unless_it_never_arrived(waits: list[float]) -> None:
    moved = ok(live="a", before="b", answering="a")
    lost = Server(httpx.ReadError("reset"), moved)
    with pytest.raises(ServerError, match="did not answer"):
        client(lost).roll_back()
    assert len(lost.asked) == 1
    unsent = Server(httpx.ConnectError("refused"), moved)
    assert client(unsent).roll_back().live == "a"
    assert len(waits) == 1


def test_an_answer_that_takes_too_long_is_not_asked_for_again() -> None:
    server = Server(httpx.ReadTimeout("too long"))
    with pytest.raises(ServerError, match="too long") as raised:
        client(server).recommend()
    assert (len(server.asked), raised.value.status) == (1, None)


def test_events_with_an_id_or_a_time_are_sent_as_they_are() -> None:
    server = Server(ok(received=2, new=2))
    events = [
        {"user_id": "a", "item_id": "b", "event": "view", "event_id": "e1"},
        {"user_id": "a", "item_id": "b", "event": "view", "timestamp": 1},
    ]
    client(server).record_many(events)
    assert server.bodies() == [{"events": events}]


@pytest.mark.parametrize(
    ("status", "error", "kind"),
    [
        (400, "BadRequest", BadRequest),
        (400, None, BadRequest),
        (422, "BadData", BadData),
        (422, "BadConfig", BadConfig),
        (503, "BadBundle", BadBundle),
        (503, "CorruptBundle", CorruptBundle),
        (503, "StaleArtefact", StaleArtefact),
        (409, "GateRefused", GateRefused),
        (501, "MissingDependency", MissingDependency),
        (503, None, ServerError),
        (404, None, ServerError),
        (418, "SystemExit", ServerError),
    ],
)
def test_problems_are_the_errors_of_the_engine(status: int, error: str | None, kind: type[ShortlistError]) -> None:
    with pytest.raises(ShortlistError, match="wrong; mend it") as raised:
        client(Server(problem(status, error=error, detail="wrong; mend it"))).releases()
    assert type(raised.value) is kind
    assert "r7" in " ".join([str(raised.value), *getattr(raised.value, "__notes__", [])])


@pytest.mark.parametrize("content", [b"", b"<html>", b"[]", b"\xff", b'{"detail": 3}', b"[" * 100_000])
def test_an_error_of_something_else_is_told_by_its_status(content: bytes) -> None:
    with pytest.raises(ServerError) as raised:
        client(Server(httpx.Response(502, content=content))).recommend()
    assert raised.value.status == 502


@pytest.mark.parametrize("content", [b"", b"<html>", b"[]", b"{}", b'{"items": 3}'])
def test_an_answer_of_something_else_is_an_error(content: bytes) -> None:
    with pytest.raises(ServerError, match="cannot be read"):
        client(Server(httpx.Response(200, content=content))).recommend()


def test_what_a_newer_server_tells_besides_is_left_out() -> None:
    assert client(Server(ok(**ANSWER, colour="red"))).recommend().release == "r1"


@pytest.mark.parametrize(
    ("call", "path"),
    [
        (lambda shop: shop.history("a/b?c#d%é"), "/v1/users/a%2Fb%3Fc%23d%25%C3%A9"),
        (lambda shop: shop.forget(".."), "/v1/users/%2E%2E"),
        (lambda shop: shop.activate("a b"), "/v1/releases/a%20b/activate"),
    ],
)
def test_ids_are_one_part_of_a_path(call: Callable[[Client], object], path: str) -> None:
    server = Server(problem(404, detail="no"))
    with pytest.raises(ServerError):
        call(client(server))
    assert server.asked[0].url.raw_path.partition(b"?")[0].decode() == path


def test_many_items_are_looked_up_a_few_at_a_time() -> None:
    server = Server(ok(items=[{"item_id": "a", "title": "A"}]))
    assert client(server).titles([f"item {number}" for number in range(250)]) == ["A"] * 3
    assert all(len(str(request.url)) < 10_000 for request in server.asked)


def test_the_key_is_sent_with_every_call_and_only_as_a_header() -> None:
    server = Server(ok(**ANSWER))
    client(server, key="sl_secret").recommend()
    assert server.asked[0].headers["authorization"] == "Bearer sl_secret"
    assert "secret" not in str(server.asked[0].url)


@pytest.mark.parametrize(
    "wrong",
    [
        {"base_url": "shop"},
        {"base_url": "ftp://shop"},
        {"base_url": "http://"},
        {"timeout": 0},
        {"retries": -1},
        {"longest_wait": -0.1},
    ],
)
def test_what_cannot_be_asked_is_refused_at_once(wrong: dict[str, Any]) -> None:
    for kind in (Client, AsyncClient):
        with pytest.raises(BadConfig):
            kind(**wrong)


@pytest.mark.parametrize("value", [float("nan"), object(), {1: object()}, b"x"])
def test_what_is_no_json_is_not_sent(value: object) -> None:
    server = Server(ok())
    with pytest.raises(BadRequest, match="JSON"):
        client(server).update_items([{"item_id": "a", "price": value}])
    assert server.asked == []


def test_similar_items_are_asked_for_with_one_item() -> None:
    with pytest.raises(BadRequest, match="one item id"):
        client(Server(ok())).answer(Request(task="similar", history=["a", "b"]))


@pytest.mark.parametrize("reply", [httpx.ConnectError("refused"), problem(503, {"Retry-After": "1"})])
def test_a_server_that_is_not_there_or_not_warm_is_not_ready_at_once(waits: list[float], reply: Reply) -> None:
    assert client(Server(reply)).ready() is False
    assert client(Server(ok(status="ready"))).ready() is True
    assert waits == []


def test_pages_follow_cursors_to_the_end() -> None:
    hit = {"item_id": "a", "title": "A", "score": 1.0, "retrieval_rank": 1, "sources": []}
    pages = [{**ANSWER, "items": [hit], "next_cursor": cursor} for cursor in ("c1", "c2", None)]
    server = Server(*(ok(**page) for page in pages))
    assert len(list(client(server).pages(Request(k=1)))) == 3
    assert [body.get("cursor") for body in server.bodies()] == [None, "c1", "c2"]


def test_both_clients_have_the_same_calls() -> None:
    def calls(kind: type[Any]) -> dict[str, list[str]]:
        return {
            name: list(inspect.signature(call).parameters)
            for name, call in vars(kind).items()
            if not name.startswith("_") and name not in ("close", "aclose")
        }

    assert calls(Client) == calls(AsyncClient)


def test_an_async_client_waits_and_asks_again_without_holding_the_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    server = Server(problem(429, {"Retry-After": "1"}), ok(**ANSWER))
    waited: list[float] = []

    async def sleep(seconds: float) -> None:
        waited.append(seconds)

    async def ask() -> Sequence[str]:
        async with AsyncClient("http://shop", transport=httpx.MockTransport(server)) as shop:
            monkeypatch.setattr(asyncio, "sleep", sleep)
            return [(await shop.recommend()).release]

    assert asyncio.run(ask()) == ["r1"]
    assert waited == [1.0]
