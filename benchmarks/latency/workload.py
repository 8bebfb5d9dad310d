"""What a bundle is asked to be timed: shoppers, queries, items and carts of its own, in drawn order."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from benchmarks.latency.load import Call
from benchmarks.sweep import Knobs
from indexing.bundle.bundle import Bundle
from retrieval.errors import BadConfig
from serving.answering.retriever import TaskName
from serving.engine import Engine
from serving.jobs.canaries import read_canaries
from serving.request import Answer

PAST, CANARIES, TITLES = "past ones", "of canaries", "first words of titles drawn at random"
WORDS = 4  # of a title that stands in for a query
TASKS: Mapping[str, TaskName] = {"search": "search", "recommend": "recommend", "cart": "recommend"}  # may be reranked


@dataclass(frozen=True, kw_only=True)
class Asked:
    """In drawn order, nothing twice. `queries` says what the texts are."""

    users: Sequence[str]
    texts: Sequence[str]
    queries: str
    items: Sequence[str]
    carts: Sequence[Sequence[str]]

    @classmethod
    def of(cls, engine: Engine, n: int, rng: np.random.Generator, canaries: Sequence[str] = ()) -> Asked:
        """Up to `n` of each, drawn from what the release holds.

        Where it holds no past queries those of its `canaries` are searched, and where there are neither the first words
        of titles.
        """
        known = engine.stages.version
        items: list[str] = known.ids_of(rng.permutation(known.size)[:n])
        carts = [tuple(known.ids_of(rng.integers(known.size, size=2))) for _ in range(n if known.size else 0)]
        shoppers = engine.shoppers.user_ids
        users: list[str] = shoppers.take(rng.permutation(len(shoppers))[:n]).to_pylist()
        texts, queries = engine.shoppers.query_texts, PAST
        if not texts:
            texts, queries = tuple(canaries), CANARIES
        if not texts:
            titles: list[str] = known.values_at("title", rng.permutation(known.size)[:n]).to_pylist()
            texts, queries = tuple(" ".join(title.split()[:WORDS]) for title in titles), TITLES
        differing = list(dict.fromkeys(filter(None, texts)))
        return cls(
            users=users,
            texts=[differing[at] for at in rng.permutation(len(differing))[:n].tolist()],
            queries=queries,
            items=items,
            carts=list(dict.fromkeys(carts)),
        )

    def calls(self, engine: Engine, knobs: Knobs) -> dict[str, list[Call]]:
        """The calls of each kind, no two alike. Without shoppers nobody is recommended to."""
        asked: dict[str, Any] = {"k": knobs.k, "filters": knobs.filters}
        reranked = {**asked, "rerank": knobs.rerank, "deadline_ms": knobs.deadline}
        as_retrieved = {**asked, "rerank": False}
        calls: dict[str, list[Call]] = {
            "recommend": [partial(engine.recommend, user_id=user, **reranked) for user in self.users],
            "recommend, not reranked": [partial(engine.recommend, user_id=user, **as_retrieved) for user in self.users],
            "search": [partial(engine.search, text, **reranked) for text in self.texts],
            "similar": [partial(engine.similar, item, **asked) for item in self.items],
            "cart": [partial(engine.complete_cart, cart, deadline_ms=knobs.deadline, **asked) for cart in self.carts],
        }
        return {name: some for name, some in calls.items() if some}

    def decks(self, engine: Engine, knobs: Knobs) -> dict[str, Deck]:
        """The calls of each kind, to be dealt; the engine forgets its queries between points."""
        return {name: Deck(some, engine.stages.forget) for name, some in self.calls(engine, knobs).items()}

    def first(self) -> dict[str, dict[str, str]]:
        """What a fresh process is asked, by kind of call, as `Engine.recommend` takes it."""
        found = {"recommend": [{"user_id": user} for user in self.users[:1]]}
        found["search"] = [{"query": text} for text in self.texts[:1]]
        return {name: one for name, some in found.items() for one in some}


class Deck:
    """Calls of one kind, all of which are made before any is made again. Many threads may ask at once.

    `forget` empties the engine's memory of requests: where a point of a measurement begins, and where the calls come
    round again, so that none finds what an earlier one left. With `always` it does so before every call.
    """

    def __init__(self, calls: Sequence[Call], forget: Callable[[], None], *, always: bool = False) -> None:
        self._calls, self._forget, self._always = calls, forget, always
        self._made = self._begun = 0
        self._lock = threading.Lock()

    def point(self, n: int) -> list[Call]:
        """`n` calls of a new point: whichever is made first takes the next of the deck."""
        self._forget()
        self._begun = self._made
        return [self._ask] * n

    @property
    def asked_before(self) -> float:
        """The share of the calls since the point began that had been made before."""
        made = self._made - self._begun
        return (self._made - max(self._begun, min(self._made, len(self._calls)))) / made if made else 0.0

    def _ask(self) -> Answer:
        with self._lock:
            at = self._made % len(self._calls)
            if self._always or not at:
                self._forget()
            self._made += 1
        return self._calls[at]()


def canary_queries(bundle: Bundle, engine: Engine) -> list[str]:
    """The queries that the canaries of an engine's release ask; titles that stand in for them are none."""
    name = engine.release.canaries
    stored = [] if name is None else read_canaries(bundle.path_of("canaries", name))
    return [one.query for one in stored if one.query and engine.titles(one.wanted) != [one.query]]


def kind_of(wanted: str | None, kinds: Iterable[str], reranks: frozenset[str]) -> str:
    """The kind of call that is put under load: the one that is wanted, else one that is reranked, search before others.

    Raises BadConfig, naming what there is, for one that the release cannot be asked.

    >>> kind_of(None, ["recommend", "search", "cart"], frozenset({"recommend"}))
    'recommend'
    """
    there = list(kinds)
    if wanted is not None:
        if wanted not in there:
            raise BadConfig(f"--call {wanted}: the release is asked for {'; '.join(there)}")
        return wanted
    return next(kind for kind in [*filter(partial(reranked, reranks), TASKS), "search", *there] if kind in there)


def reranked(reranks: frozenset[str], kind: str) -> bool:
    """Whether calls of a kind go through the cross-encoder of a release that reranks these tasks."""
    return TASKS.get(kind) in reranks
