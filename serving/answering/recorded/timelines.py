"""One shopper's events: those of a release followed by those that were recorded since, as one timeline."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, NamedTuple, overload

import numpy as np
from numpy.typing import NDArray

from indexing.version.index_version import IndexVersion
from retrieval.data.event_kinds import Meaning, meaning
from retrieval.data.time_units import SECOND
from retrieval.data.timeline import QUERY_KIND, Timeline, undone_by
from retrieval.text.rendering import query_text
from serving.answering.user_store import UserStore

if TYPE_CHECKING:
    from serving.live.events import RecordedEvent
    from serving.live.store import UserEvents

SAME = SECOND  # events of one shopper, item and kind that are nearer in time are one event, which two systems noted
UNKNOWN, UNKNOWN_RETURN = -1, -2  # codes of kinds of events that the release does not know


class Columns(NamedTuple):
    """Those of a timeline, [n] each."""

    item: NDArray[np.int32]
    query: NDArray[np.int32]
    kind: NDArray[np.int16]
    time: NDArray[np.int64]

    def joined(self, later: Columns) -> Columns:
        """Those of both, in the order of time."""
        order = np.argsort(np.concatenate([self.time, later.time]), kind="stable")
        return Columns(
            np.concatenate([self.item, later.item])[order],
            np.concatenate([self.query, later.query])[order],
            np.concatenate([self.kind, later.kind])[order],
            np.concatenate([self.time, later.time])[order],
        )


class UserTimeline(NamedTuple):
    """The events of one shopper, the user 0 of `timeline`. `query_texts` are those of the release, then the shopper's
    own later ones."""

    timeline: Timeline
    query_texts: Sequence[str]


class QueryTexts(Sequence[str]):
    """The query texts of a release, followed by further ones, without a copy."""

    def __init__(self, known: Sequence[str], own: Sequence[str]) -> None:
        self.known, self.own = known, own

    @overload
    def __getitem__(self, at: int) -> str: ...
    @overload
    def __getitem__(self, at: slice) -> Sequence[str]: ...
    def __getitem__(self, at: int | slice) -> str | Sequence[str]:
        """The text of a code."""
        if isinstance(at, slice):
            return [self[one] for one in range(*at.indices(len(self)))]
        return self.known[at] if at < len(self.known) else self.own[at - len(self.known)]

    def __len__(self) -> int:
        return len(self.known) + len(self.own)


def user_timeline(
    store: UserStore, version: IndexVersion, targets: Sequence[int], user_id: str, live: UserEvents
) -> UserTimeline:
    """What a release and a store of events hold of a shopper; `targets` are the codes of kinds by which an item is
    taken. An event that both hold is read once, and what the shopper did up to being forgotten is not read. Where the
    release knows no returns, what was given back is read as if it had never been taken."""
    known = of_release(store, user_id, live.forgotten_at)
    events = not_in_release(store, version, user_id, (stored.event for stored in live.events))
    added, own = _columns_of(sorted(events, key=lambda event: event.time), store, version)
    item, query, kind, time = known.joined(added)  # events may be recorded late
    if (back := kind == UNKNOWN_RETURN).any():
        takes = np.isin(kind, np.asarray(targets, np.int64)) & (item >= 0)
        kept = ~back & (undone_by(np.zeros(len(item), np.int64), item, takes, back) < 0)
        item, query, kind, time = item[kept], query[kept], kind[kept], time[kept]
    offsets, kinds = np.array([0, len(item)]), store.timeline.kinds
    timeline = Timeline(item=item, query=query, kind=kind, time=time, offsets=offsets, kinds=kinds)
    return UserTimeline(timeline, QueryTexts(store.query_texts, own) if own else store.query_texts)


def not_in_release(
    store: UserStore, version: IndexVersion, user_id: str, events: Iterable[RecordedEvent]
) -> list[RecordedEvent]:
    """The events of a shopper that a release does not hold: none of the same item and kind within a second."""
    events, newest = list(events), store.newest + SAME
    if all(event.time > newest for event in events):
        return events
    item, _, kind, time = of_release(store, user_id, None)
    rows, code_of = version.rows_of([event.item_id for event in events]), _codes(store)
    found = []
    for row, event in zip(rows.tolist(), events, strict=True):
        code = code_of.get(event.kind, UNKNOWN)
        near = slice(*np.searchsorted(time, [event.time - SAME + 1, event.time + SAME]))
        if row < 0 or not ((item[near] == row) & (kind[near] == code)).any():
            found.append(event)
    return found


def of_release(store: UserStore, user_id: str, forgotten_at: int | None) -> Columns:
    """The columns of a shopper's events in a release, in the order of time."""
    timeline, code = store.timeline, store.code(user_id)
    own = slice(0, 0) if code is None else slice(int(timeline.offsets[code]), int(timeline.offsets[code + 1]))
    if forgotten_at is not None:
        first = int(np.searchsorted(timeline.time[own], forgotten_at, side="right"))
        own = slice(own.start + first, own.stop)
    return Columns(timeline.item[own], timeline.query[own], timeline.kind[own], timeline.time[own])


def _columns_of(
    events: Sequence[RecordedEvent], store: UserStore, version: IndexVersion
) -> tuple[Columns, tuple[str, ...]]:
    """The columns of events, each query placed before the event that it led to, and the texts of the queries, whose
    codes follow those of the release."""
    code_of, codes, before = _codes(store), dict[str, int](), ""
    returned = next((code for kind, code in code_of.items() if meaning(kind) is Meaning.RETURN), UNKNOWN_RETURN)
    lines: list[tuple[int, int, int, int]] = []
    for row, event in zip(version.rows_of([event.item_id for event in events]).tolist(), events, strict=True):
        text = query_text(event.query or "")
        if text and text != before:
            code = codes.setdefault(text, len(store.query_texts) + len(codes))
            lines.append((-1, code, code_of.get(QUERY_KIND, UNKNOWN), event.time))
        before, unknown = text, returned if event.is_return else UNKNOWN
        lines.append((row, -1, code_of.get(event.kind, unknown), event.time))
    table = np.array(lines, np.int64).reshape(len(lines), 4)
    item, query, kind, time = table.T
    found = Columns(item.astype(np.int32), query.astype(np.int32), kind.astype(np.int16), time)
    return found, tuple(codes)


def _codes(store: UserStore) -> dict[str, int]:
    return {kind: code for code, kind in enumerate(store.timeline.kinds)}
