"""The towers' training data, and the text encoder's pairs of it: from judgements, queries in events, and histories."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from retrieval.data.dataset import DataSet
from retrieval.data.split import EventSplit, JudgementSplit
from retrieval.data.targets import rated
from retrieval.text.rendering import user_text
from retrieval.topk import CSR
from retrieval.training.text_pairs import TextPairs
from retrieval.training.windows import Windows

GOOD_SHARE = 0.6  # of the range of grades: judgements at least this far up from the lowest are positives
TITLES_READ = 2  # newest titles that make up the text of a shopper


@dataclass(frozen=True)
class TowerData:
    """The training data: a data set, its splits, and, for cross-fitting, the users that may be trained on."""

    data: DataSet
    events: EventSplit | None
    judgements: JudgementSplit | None
    users: NDArray[np.bool_] | None = None  # [n_users], true where a user may be trained on; None: all

    @property
    def train(self) -> NDArray[np.bool_]:
        """Mask of the events that may be trained on, bool [n_events]."""
        assert self.events is not None
        assert self.data.events is not None
        train = self.events.train
        return train if self.users is None else train & self.users[self.data.events.user]


def judged_pairs(data: DataSet, queries: NDArray[np.integer], *, graded: bool = False) -> TextPairs:
    """Pairs of judged queries (positions in `data.queries`) and the items judged relevant to them.

    Items above the lowest grade are never negatives. With `graded`, every judged item makes a pair, its grade scaled to
    0 (lowest of the data set) to 1 (highest).
    """
    assert data.judgements is not None
    assert data.queries is not None
    judged = data.judgements
    lowest, highest = float(judged.grade.min()), float(judged.grade.max())
    scaled = (judged.grade - lowest) / (highest - lowest) if highest > lowest else np.ones_like(judged.grade)
    within = np.isin(judged.query, queries)
    good, fair = within & (scaled >= GOOD_SHARE), within & ((scaled > 0) | (scaled >= GOOD_SHARE))
    taken = within if graded else good
    return TextPairs(
        tuple(data.queries.texts[query] for query in judged.query[taken]),
        judged.query[taken].astype(np.int64),
        judged.item[taken].astype(np.int64),
        CSR.grouped(judged.query[fair], judged.item[fair], len(data.queries.texts)),
        scaled[taken].astype(np.float32) if graded else None,
    )


def event_query_pairs(data: DataSet, train: NDArray[np.bool_]) -> TextPairs:
    """Pairs of the query of a training event and the event's item; `train` bool [n_events]."""
    assert data.events is not None
    events = data.events
    with_query = train & (events.query >= 0)
    query, item = events.query[with_query], events.item[with_query]
    texts = tuple(events.query_texts[code] for code in query)
    known = CSR.grouped(query, item, len(events.query_texts))
    return TextPairs(texts, query.astype(np.int64), item.astype(np.int64), known)


def rated_pairs(data: DataSet, train: NDArray[np.bool_]) -> TextPairs:
    """Pairs of what led to a rated training event and its item, with the rating scaled to 0 (lowest of the data set) to
    1 (highest) as grade. `train` bool [n_events]; at least one event has a rating.

    What led to it is the event's query, or else the shopper's newest titles before; events without either make no pair.
    """
    assert data.events is not None
    events, titles = data.events, data.items["title"].to_pylist()
    known_rating = rated(events)
    at = np.flatnonzero(train & known_rating)
    starts = events.offsets[events.user[at]]
    texts = [
        events.query_texts[events.query[one]]
        if events.query[one] >= 0
        else _recent(events.item[max(start, one - 8) : one], titles)
        for one, start in zip(at.tolist(), starts.tolist(), strict=True)
    ]
    told = np.array([bool(text) for text in texts], bool)
    at, owner = at[told], np.arange(int(told.sum()))
    lowest, span = events.rating[known_rating].min(), np.ptp(events.rating[known_rating])
    grade = (events.rating[at] - lowest) / span if span > 0 else np.ones(len(at))
    item = events.item[at].astype(np.int64)
    known = CSR.grouped(owner, item, len(owner))
    return TextPairs(tuple(filter(None, texts)), owner, item, known, grade.astype(np.float32))


def history_pairs(windows: Windows, titles: list[str], pairs: int, rng: np.random.Generator) -> TextPairs:
    """At most `pairs` random moments of histories: the newest titles, with one item of the request that followed."""
    timeline = windows.timeline
    at = rng.permutation(np.flatnonzero((windows.follows >= 0) & (timeline.item >= 0)))[:pairs]
    owner = np.searchsorted(timeline.offsets, at, side="right") - 1
    requests = windows.requests.select(windows.follows[at])
    one = requests.indptr[:-1] + rng.integers(0, np.diff(requests.indptr))
    texts = tuple(
        _recent(timeline.item[max(start, end - 8) : end + 1], titles)
        for start, end in zip(timeline.offsets[owner], at, strict=True)
    )
    return TextPairs(texts, owner, requests.rows[one], windows.liked)


def _recent(items: NDArray[np.int32], titles: list[str]) -> str:
    return user_text((titles[row] for row in items[::-1] if row >= 0), limit=TITLES_READ)
