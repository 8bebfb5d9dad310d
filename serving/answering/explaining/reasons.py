"""Why a hit is answered, as a shopper may read it: what was searched for, what they did, what is popular."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ranking.features.facts import Does
from retrieval.text.analysis import Analyzer
from retrieval.text.analysis.measures import is_number
from retrieval.text.analysis.normalisation import normalised
from retrieval.topk import Rows
from serving.answering.batch import Batch
from serving.answering.explaining.leave_one_out import FIRST_WORDS, Effects, Word, query_words
from serving.explanation import Reason

if TYPE_CHECKING:
    from serving.answering.release_state import ReleaseState

LEAST_SPREADS = 0.01  # spreads of the candidates' scores that a cause has to bring to be named
MOST_WORDS = 4  # that are named
KEYS = {Does.TAKE: "why.bought", Does.CART: "why.in_cart", Does.LIKE: "why.liked", Does.LOOK: "why.looked_at"}
AGAIN = {
    Does.TAKE: "why.bought_before",
    Does.CART: "why.put_in_cart",
    Does.LIKE: "why.liked_before",
    Does.LOOK: "why.looked_before",
}
POPULARITY = "popularity"  # begins the names of the sources of what is popular, and is the group of such features


class Event(NamedTuple):
    """The strongest of a shopper's events on an item, of equal ones the newest."""

    does: Does
    kind: str  # as in the data; empty: unknown
    time: int  # microseconds since 1970, UTC


def events_by_item(state: ReleaseState, batch: Batch, line: int) -> dict[int, Event]:
    """What the shopper of a request did with each item of the history or the cart, by its row."""
    events = batch.users.events.select(np.array([line]))
    kinds, does = (*batch.users.kinds, ""), state.facts.does[events.kinds]
    found: dict[int, Event] = {}
    for row, did, kind, time in zip(
        events.items.rows.tolist(), does.tolist(), events.kinds.tolist(), events.times.tolist(), strict=True
    ):
        if row not in found or did <= found[row].does:
            found[row] = Event(Does(did), kinds[kind], time)
    return found


def reasons_of(
    state: ReleaseState, batch: Batch, line: int, shown: NDArray[np.int64], effects: Effects, named: Mapping[int, str],
    events: Mapping[int, Event], added: Sequence[Mapping[str, float]],
) -> list[tuple[Reason, ...]]:  # fmt: skip
    """The reasons of the hits at the places `shown` int64 [m] of the order, the strongest first. `named` are titles by
    row, `events` is what `events_by_item` tells, `added` what features add to the hits' scores."""
    order = batch.order
    assert order is not None, "hits are explained once they are in order"
    rows, places = order.rows[line, shown], order.places[line, shown]
    least = LEAST_SPREADS * _spread(batch, line)
    exact, matched = batch.candidates.exact[line, places].tolist(), _matched(state, batch, line, rows, effects, least)
    popular = _popular(state, batch, line, rows, places, added)
    said = []
    for at, row in enumerate(rows.tolist()):
        found = [Reason("why.named")] if exact[at] else []
        if matched[at]:
            found.append(Reason("why.matches", {"words": ", ".join(matched[at])}))
        if batch.task.by_content:
            given = batch.users.given.select(np.array([line])).rows[:1].tolist()
            found += [Reason("why.like", {"title": named[one]}) for one in given]
        if effects.of_items.shape[1]:
            best = int(effects.of_items[at].argmax())
            if effects.of_items[at, best] > least:
                found.append(_of_event(batch, line, row, int(effects.items[best]), named, events))
        said.append((*found, *popular[at]))
    return said


def _of_event(
    batch: Batch, line: int, row: int, item: int, named: Mapping[int, str], events: Mapping[int, Event]
) -> Reason:
    """What a shopper is told of the item of the history that brought a hit up most."""
    does = events[item].does
    if batch.task.excludes_given and item in batch.users.given.select(np.array([line])).rows:
        return Reason("why.goes_with", {"title": named[item]})
    if item == row:
        return Reason(AGAIN.get(does, "why.known_before"))
    return Reason(KEYS.get(does, "why.in_history"), {"title": named[item]})


def _spread(batch: Batch, line: int) -> float:
    """The standard deviation of the candidates' scores before the cross-encoder."""
    scores = batch.candidates.hits.scores[line]
    return float(scores[np.isfinite(scores)].std()) if np.isfinite(scores).any() else 0.0


def _popular(
    state: ReleaseState, batch: Batch, line: int, rows: Rows, places: NDArray[np.int64],
    added: Sequence[Mapping[str, float]],
) -> list[tuple[Reason, ...]]:  # fmt: skip
    """Of each hit whether it is answered for its popularity: of nobody known, or where that raised its score."""
    weekly = state.popular_this_week
    this_week, ever = Reason("why.popular_this_week"), Reason("why.popular")
    if not batch.vectors[line].any() and state.user_store.popularity.any():
        return [(this_week if row in weekly else ever,) for row in rows.tolist()]
    raised = _raised_by_popularity(state, batch, line, places, added)
    return [(this_week,) if row in weekly and up else () for row, up in zip(rows.tolist(), raised, strict=True)]


def _raised_by_popularity(
    state: ReleaseState, batch: Batch, line: int, places: NDArray[np.int64], added: Sequence[Mapping[str, float]]
) -> list[bool]:
    if batch.scored is not None:
        columns = state.feature_reader(batch.scored.ranker).columns
        names = [name for group, of in columns.items() if group.name == POPULARITY for name, _ in of]
        return [sum(shares.get(name, 0.0) for name in names) > 0 for shares in added]
    parts = batch.candidates.hits.parts
    total = sum(
        (part[line, places] for name, part in parts.items() if name.startswith(POPULARITY)), np.zeros(len(places))
    )
    return [bool(raised) for raised in total > 0]


def _matched(
    state: ReleaseState, batch: Batch, line: int, rows: Rows, effects: Effects, least: float
) -> list[list[str]]:
    """The words of the query that each hit holds and that raised its score, those that did most first."""
    words = query_words(batch.queries.corrected[line])[:FIRST_WORDS]
    if not words:
        return [[] for _ in rows]
    found = []
    for at, text in enumerate(state.item_texts(rows)):
        gain = dict(zip(words, effects.of_words[at].tolist(), strict=False))
        told = sorted((word for word in words if gain.get(word, np.inf) > least), key=lambda word: -gain.get(word, 0.0))
        found.append(held_words(told, text, state.analyzer)[:MOST_WORDS])
    return found


def held_words(words: Sequence[Word], text: str, analyzer: Analyzer) -> list[str]:
    """The words of a query that a text has in any form, as the query has them, in their order.

    >>> held_words(query_words("oak boxes 120 cm"), "Oak box, 1200 mm", Analyzer())
    ['oak', 'boxes', '120 cm']
    """
    stems, plain, held = set(analyzer.stems(text)), normalised(text), list[Word]()
    for word in words:
        own = analyzer.stems(word.text)
        telling = [stem for stem in own if not is_number(stem)] or own
        if normalised(word.text) in plain if word.unspaced else any(stem in stems for stem in telling):
            held.append(word)
    return _joined(held, plain)


def _joined(words: Sequence[Word], plain: str) -> list[str]:
    """Words as they are shown: of scripts without spaces, neighbours that the text has as one are one."""
    found = list[Word]()
    for word in words:
        for at, other in enumerate(found):
            left, right = sorted((other, word), key=lambda one: one.start)
            if word.unspaced and left.end == right.start and normalised(left.text + right.text) in plain:
                found[at] = Word(left.text + right.text, left.start, right.end, True)
                break
        else:
            found.append(word)
    return [word.text for word in found]
