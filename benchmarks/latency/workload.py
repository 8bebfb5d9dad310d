"""The calls that an engine is timed on: users, queries, items and carts of its own bundle, in random order."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from benchmarks.latency.load import Call
from benchmarks.sweep import EngineOptions
from indexing.bundle.bundle import Bundle
from retrieval.errors import BadConfig
from serving.internals import Answer, Engine, GateName, read_canaries

PAST_QUERIES = "past queries"
CANARY_QUERIES = "queries of the canaries"
TITLE_WORDS = "first words of titles drawn at random"
WORDS = 4  # of a title that stands in for a query
TASKS: Mapping[str, GateName] = {"search": "search", "recommend": "recommend", "cart": "recommend"}  # may be reranked


@dataclass(frozen=True, kw_only=True)
class Workload:
    """What calls are about, in random order and without duplicates. `query_source` says where the queries come from."""

    users: Sequence[str]
    queries: Sequence[str]
    query_source: str
    items: Sequence[str]
    carts: Sequence[Sequence[str]]

    @classmethod
    def sample(cls, engine: Engine, n: int, rng: np.random.Generator, canaries: Sequence[str] = ()) -> Workload:
        """Up to `n` users, queries, items and carts of the engine's release.

        Queries are past queries of its users; without any, those of its `canaries`; without either, the first words of
        titles.
        """
        version = engine.state.version
        items: list[str] = version.ids_of(rng.permutation(version.size)[:n])
        carts = [tuple(version.ids_of(rng.integers(version.size, size=2))) for _ in range(n if version.size else 0)]
        known_users = engine.state.user_store.user_ids
        users: list[str] = known_users.take(rng.permutation(len(known_users))[:n]).to_pylist()
        texts, source = engine.state.user_store.query_texts, PAST_QUERIES
        if not texts:
            texts, source = tuple(canaries), CANARY_QUERIES
        if not texts:
            titles: list[str] = version.values_at("title", rng.permutation(version.size)[:n]).to_pylist()
            texts, source = tuple(" ".join(title.split()[:WORDS]) for title in titles), TITLE_WORDS
        distinct = list(dict.fromkeys(filter(None, texts)))
        return cls(
            users=users,
            queries=[distinct[at] for at in rng.permutation(len(distinct))[:n].tolist()],
            query_source=source,
            items=items,
            carts=list(dict.fromkeys(carts)),
        )

    def calls(self, engine: Engine, options: EngineOptions) -> dict[str, list[Call]]:
        """The calls of each kind, all different. A kind without any call is left out, as `recommend` without users."""
        common: dict[str, Any] = {"k": options.k, "filters": options.filters}
        reranked = {**common, "rerank": options.rerank, "deadline_ms": options.deadline_ms}
        retrieved = {**common, "rerank": False}
        cart = {**common, "deadline_ms": options.deadline_ms}
        calls: dict[str, list[Call]] = {
            "recommend": [partial(engine.recommend, user_id=user, **reranked) for user in self.users],
            "recommend, not reranked": [partial(engine.recommend, user_id=user, **retrieved) for user in self.users],
            "search": [partial(engine.search, query, **reranked) for query in self.queries],
            "similar": [partial(engine.similar, item, **common) for item in self.items],
            "cart": [partial(engine.complete_cart, items, **cart) for items in self.carts],
        }
        return {kind: some for kind, some in calls.items() if some}

    def pools(self, engine: Engine, options: EngineOptions) -> dict[str, CallPool]:
        """The calls of each kind as pools that clear the engine's cached queries, see `CallPool`."""
        return {
            kind: CallPool(some, engine.state.query_vectors.forget)
            for kind, some in self.calls(engine, options).items()
        }

    def first_requests(self) -> dict[str, dict[str, str]]:
        """The first request of a fresh process, by kind of call, as arguments of `Engine.recommend`."""
        requests = {"recommend": [{"user_id": user} for user in self.users[:1]]}
        requests["search"] = [{"query": query} for query in self.queries[:1]]
        return {kind: some[0] for kind, some in requests.items() if some}


class CallPool:
    """Calls of one kind, each of which is made once before any is repeated. Safe for many threads at once.

    `clear_cache` empties the engine's caches of requests: at the start of every measurement and whenever the pool
    starts over, so that no call finds what an earlier one left there; with `always` before every call.
    """

    def __init__(self, calls: Sequence[Call], clear_cache: Callable[[], None], *, always: bool = False) -> None:
        self._calls, self._clear_cache, self._always = calls, clear_cache, always
        self._made = self._begun = 0
        self._lock = threading.Lock()

    def take(self, n: int) -> list[Call]:
        """`n` calls for a new measurement: whichever of them is made first makes the pool's next call."""
        self._clear_cache()
        self._begun = self._made
        return [self._next_call] * n

    @property
    def repeated_share(self) -> float:
        """The share of the current measurement's calls that had been made before."""
        made = self._made - self._begun
        return (self._made - max(self._begun, min(self._made, len(self._calls)))) / made if made else 0.0

    def _next_call(self) -> Answer:
        with self._lock:
            at = self._made % len(self._calls)
            if self._always or not at:
                self._clear_cache()
            self._made += 1
        return self._calls[at]()


def canary_queries(bundle: Bundle, engine: Engine) -> list[str]:
    """The queries of the canaries of an engine's release, without those that are merely an item's title."""
    name = engine.release.canaries
    canaries = [] if name is None else read_canaries(bundle.path_of("canaries", name))
    return [one.query for one in canaries if one.query and engine.titles(one.wanted) != [one.query]]


def load_kind(wanted: str | None, kinds: Iterable[str], reranks: frozenset[str]) -> str:
    """The kind of call to put under load: the `wanted` one, else a reranked one, search before others.

    Raises BadConfig for a kind that the release cannot answer, naming those that it can.

    >>> load_kind(None, ["recommend", "search", "cart"], frozenset({"recommend"}))
    'recommend'
    """
    available = list(kinds)
    if wanted is not None:
        if wanted not in available:
            raise BadConfig(f"--call {wanted}: this release can be asked for {'; '.join(available)}")
        return wanted
    return next(
        kind for kind in [*filter(partial(is_reranked, reranks), TASKS), "search", *available] if kind in available
    )


def is_reranked(reranks: frozenset[str], kind: str) -> bool:
    """Whether a release that reranks these tasks reranks calls of a kind."""
    return TASKS.get(kind) in reranks
