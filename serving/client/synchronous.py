"""The client of programs that wait for each answer."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Self, TypeVar, Unpack

import httpx

from serving.answering.live.forget import Forgotten
from serving.answering.lookup import PastEvent
from serving.client import calls
from serving.client.calls import Call
from serving.client.errors import ServerError
from serving.client.options import CartOptions, EventDetails, RecommendOptions, SearchOptions, SimilarOptions
from serving.client.results import CheckedRules, Moved, Releases, RulesInForce, Updated
from serving.client.sending import Sending, options_of
from serving.request import Answer, Request
from serving.why_not.result import WhyNot

T = TypeVar("T")


class Client:
    """A server, asked as an engine is. Safe to use from several threads; open it once, and close it at the end:

        with Client("http://127.0.0.1:8000") as shop:
            answer = shop.search("red mug")

    Answers are the engine's own types, and errors the engine's own: BadRequest, BadData, BadBundle...; ServerError is
    raised where an engine would have answered.

    `key` is an API key. `timeout`: seconds to wait for the next part of an answer. Where the server says that it is
    full, a call is sent again when it says so, `retries` times and after `longest_wait` seconds at most; so is one that
    may be repeated where a connection fails. `transport` is for tests, and for applications in the same process.
    """

    def __init__(
        self,
        base_url: str = "http://127.0.0.1:8000",
        *,
        key: str | None = None,
        timeout: float = 30.0,
        retries: int = 3,
        longest_wait: float = 10.0,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        """Raises BadConfig for what is no address and for numbers that are out of range."""
        options = options_of(base_url, key, timeout, retries, longest_wait)
        self._http = httpx.Client(**options, transport=transport)
        self._sending = Sending(retries, longest_wait)

    def close(self) -> None:
        """Closes the connections."""
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def recommend(self, **options: Unpack[RecommendOptions]) -> Answer:
        """See `Engine.recommend`."""
        return self.answer(Request(**options))

    def search(self, text: str, **options: Unpack[SearchOptions]) -> Answer:
        """See `Engine.search`."""
        return self.answer(Request(**{"query": text, "filter_seen": False, **options}))  # type: ignore[arg-type]

    def similar(self, item_id: str, **options: Unpack[SimilarOptions]) -> Answer:
        """See `Engine.similar`."""
        return self.answer(Request(task="similar", history=[item_id], **options))

    def complete_cart(self, items: Sequence[str], **options: Unpack[CartOptions]) -> Answer:
        """See `Engine.complete_cart`."""
        return self.answer(Request(task="complete_cart", history=items, **options))

    def answer(self, request: Request) -> Answer:
        """Any request; see `Engine.answer`."""
        return self._send(calls.answer(request))[0]

    def pages(self, request: Request) -> Iterator[Answer]:
        """The answer to a request, then the k items that follow, and so on, all from the release of the first. Ends
        where nothing follows or at the most items that the server answers. Raises ServerError 410 where that release is
        not open any more."""
        answer, cursor = self._send(calls.answer(request))
        yield answer
        while cursor is not None:
            answer, cursor = self._send(calls.answer(request, cursor))
            if answer.items:
                yield answer

    def batch(self, requests: Sequence[Request]) -> list[Answer]:
        """The answers to several requests in their order, all from the same state of one release."""
        return self._send(calls.answers(requests)) if requests else []

    def why_not(self, request: Request, item_id: str) -> WhyNot:
        """See `Engine.why_not`."""
        return self._send(calls.why_not(request, item_id))

    def record(
        self, user_id: str, item_id: str, event: str, timestamp: object = None, **details: Unpack[EventDetails]
    ) -> bool:
        """Keep an event; see `Engine.record`. It is kept once however often a connection fails meanwhile."""
        given = {"user_id": user_id, "item_id": item_id, "event": event, "timestamp": timestamp, **details}
        return self.record_many([given]) == 1

    def record_many(self, events: Iterable[Mapping[str, Any]]) -> int:
        """Keep several events, all or none; see `Engine.record_many`."""
        return self._send(calls.record_many(events))

    def forget(self, user_id: str) -> Forgotten:
        """Remove a user; see `Engine.forget`."""
        return self._send(calls.forget(user_id))

    def history(self, user_id: str, k: int = 50) -> list[PastEvent]:
        """The k newest events of a shopper, newest first; none of one who is not known."""
        return self._send(calls.history(user_id, k))

    def find_users(self, prefix: str = "", k: int = 20) -> list[str]:
        """Ids of shoppers that begin with a text, k at most."""
        return self._send(calls.find_users(prefix, k))

    def items(self, item_ids: Sequence[str]) -> list[dict[str, Any]]:
        """Every attribute of items, in the order of their ids; unknown ones are left out. Times are texts."""
        return [item for call in calls.items(item_ids) for item in self._send(call)]

    def titles(self, items: Sequence[str]) -> list[str]:
        """See `Engine.titles`."""
        return [item["title"] for item in self.items(items)]

    def update_items(self, upsert: Sequence[Mapping[str, Any]] = (), delete: Sequence[str] = ()) -> Updated:
        """Add and change items, with the columns of items.parquet, and delete others by id; answered from at once.
        Columns that an item lacks keep their values. Raises BadData for items that the index cannot have."""
        return self._send(calls.update_items(upsert, delete))

    def rules(self) -> RulesInForce:
        """The merchandising rules by which the server answers."""
        return self._send(calls.rules())

    def check_rules(self, toml: str) -> CheckedRules:
        """What is wrong with the text of a rules file, and where rules contradict each other over the items."""
        return self._send(calls.check_rules(toml))

    def releases(self) -> Releases:
        """Every release, with its gates, and which one answers."""
        return self._send(calls.releases())

    def activate(self, release: str) -> Moved:
        """Make a release live; every file of it is verified first. Raises ServerError 404 for an unknown one, and
        BadBundle for one that is not intact."""
        return self._send(calls.activate(release))

    def roll_back(self) -> Moved:
        """Make the release before live again. Raises ServerError 409 where there is none."""
        return self._send(calls.roll_back())

    def ready(self) -> bool:
        """Whether the server answers: it can be reached, its models are warm, and it was not told to end."""
        try:
            return self._sending.outcome(calls.ready(), self._try(calls.ready()))
        except ServerError:
            return False

    def _send(self, call: Call[T]) -> T:
        attempt = 0
        while True:
            came = self._try(call)
            wait = self._sending.wait(call, attempt, came)
            if wait is None:
                return self._sending.outcome(call, came)
            time.sleep(wait)
            attempt += 1

    def _try(self, call: Call[Any]) -> httpx.Response | httpx.TransportError:
        try:
            return self._http.request(call.method, call.path, content=call.body)
        except httpx.TransportError as error:
            return error
