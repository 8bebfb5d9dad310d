"""`shortlist bench explain`: whether the cause that an explanation names is the cause, and what explaining costs.

A cause is named and then taken away: the same request is asked anew without it, as any caller would ask, and the item's
score compared. A random other cause of the same request is taken away beside it. Without the cross-encoder.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from benchmarks.latency.workload import Workload
from benchmarks.result_lines import Line, sampled
from retrieval.data.time_units import SECOND
from serving.internals import Engine, Request

REQUESTS, FEW = 200, 10  # with causes to compare; those of a quick run
LEAST = 3  # causes that a request has at least
K = 10  # items of an answer
Cause: TypeAlias = str  # an item id, or a word


@dataclass(frozen=True)
class Asked:
    """A request as something to be asked with fewer of its causes."""

    causes: Sequence[Cause]
    without: Callable[[Cause | None], Request]  # None: all of it


@dataclass(frozen=True)
class ExplainRun:
    """A bundle, whose live release is asked."""

    bundle: Path
    device: str = "auto"
    seed: int = 0
    quick: bool = False

    def lines(self) -> Iterator[Line]:
        """The share of requests whose named cause moves the score more than another; milliseconds that explaining adds
        and that `why_not` takes."""
        n, rng = FEW if self.quick else REQUESTS, np.random.default_rng(self.seed)
        live = Engine.open(self.bundle, device=self.device, auto_reload=False)
        engine = Engine(replace(live.state, steps=()))  # without the cross-encoder
        workload = Workload.sample(engine, 20 * n, rng)
        histories = filter(None, (_of_history(engine, user) for user in workload.users))
        queries = filter(None, map(_of_query, workload.queries))
        for kind, found in (("event", histories), ("word", queries)):
            asked = [one for one, _ in zip(found, range(n), strict=False)]
            if asked:
                yield faithfulness(engine, kind, asked, rng)
        calls = {
            "recommend": [partial(Request, user_id=user, k=K) for user in workload.users[:n]],
            "search": [partial(Request, query=query, k=K) for query in workload.queries[:n]],
        }
        for call, requests in calls.items():
            if requests:
                yield from _costs(engine, call, requests, workload.items)


def faithfulness(engine: Engine, kind: str, requests: Sequence[Asked], rng: np.random.Generator) -> Line:
    """How often taking the named cause away moves a random answered item's score more than taking another."""
    found = [result for request in requests if (result := _compared(engine, kind, request, rng)) is not None]
    named, other = np.array(found).reshape(-1, 2).T
    summary = {
        "n": float(len(found)),
        "moves more": float(np.mean(np.abs(named) > np.abs(other))) if found else None,
        "lowers more": float(np.mean(named > other)) if found else None,
    }
    return Line(measured="faithful", labels={"cause": kind}, unit="share", summary=summary)


def _compared(engine: Engine, kind: str, request: Asked, rng: np.random.Generator) -> tuple[float, float] | None:
    """By how much the named and another cause lower the score of an item that has a named one; None where none has, or
    where both lower it alike."""
    answer = engine.answer(replace(request.without(None), explain=True, k=K))
    for at in rng.permutation(len(answer.items)).tolist():
        hit = answer.items[at]
        assert hit.explanation is not None
        causes = hit.explanation.events if kind == "event" else hit.explanation.words
        best = max(causes, key=lambda cause: cause.effect, default=None)
        if best is None or best.effect <= 0:
            continue
        named = best[0]
        other = str(rng.choice([cause for cause in request.causes if cause not in (named, *named.split())]))
        whole = _score(engine, request.without(None), hit.item_id)
        by_named, by_other = (whole - _score(engine, request.without(cause), hit.item_id) for cause in (named, other))
        if not np.isclose(by_named, by_other):  # words that as many items have weigh the same, and are both the cause
            return by_named, by_other
    return None


def _score(engine: Engine, request: Request, item: str) -> float:
    """The score of an item among all candidates of a request; of one that is none, minus infinity."""
    items = engine.answer(replace(request, k=engine.state.shortlist)).items
    return next((hit.score for hit in items if hit.item_id == item), -np.inf)


def _of_history(engine: Engine, user: str) -> Asked | None:
    """A shopper's events as they are given with a request; None where they are on too few items."""
    state = engine.state
    events, kinds = state.user_contexts.of_user(user).events, (*state.user_store.timeline.kinds, None)
    ids = state.version.ids_of(events.items.rows)
    given = [
        (item, kinds[kind], when / SECOND)
        for item, kind, when in zip(ids, events.kinds.tolist(), events.times.tolist(), strict=True)
    ]
    items = list(dict.fromkeys(ids))
    if len(items) < LEAST:
        return None
    return Asked(items, lambda left_out: Request(history=[event for event in given if event[0] != left_out]))


def _of_query(query: str) -> Asked | None:
    """A query of words between blanks, each once; None where they are too few."""
    words = query.split()
    if len(words) < LEAST or len(set(words)) < len(words):
        return None

    def without(left_out: Cause | None) -> Request:
        shorter = re.sub(rf"(?<!\w){re.escape(left_out or '')}(?!\w)", "", query, count=1)
        return Request(query=shorter if left_out else query, spellcheck=False)

    return Asked(words, without)


def _costs(
    engine: Engine, call: str, requests: Sequence[Callable[..., Request]], items: Sequence[str]
) -> Iterator[Line]:
    """Milliseconds of each request alone and explained, in turn, and of asking why an item is not answered."""
    plain, explained, why_not = [list[float]() for _ in range(3)]
    for at, request in enumerate(requests):
        for times, ask in (
            (plain, partial(engine.answer, request())),
            (explained, partial(engine.answer, request(explain=True))),
            (why_not, partial(engine.why_not, request(), items[at % len(items)])),
        ):
            engine.state.query_vectors.forget()
            times.append(_milliseconds(ask))
    for name, times in (("answer", plain), ("answer, explained", explained), ("why not", why_not)):
        yield sampled("explaining", {"call": call, "what": name}, "ms", times)
    added = [more - less for more, less in zip(explained, plain, strict=True)]
    yield sampled("explaining", {"call": call, "what": "added by explaining"}, "ms", added)


def _milliseconds(call: Callable[[], Any]) -> float:
    begun = time.perf_counter()
    call()
    return (time.perf_counter() - begun) * 1_000
