"""Training windows of the history part: every prefix of a user's training events with the request that followed it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from retrieval.data.events import Events
from retrieval.data.requests import Groups, group_targets
from retrieval.data.timeline import Timeline
from retrieval.topk import CSR


@dataclass(frozen=True, kw_only=True)
class Windows:
    """Stretches of the timeline of at most `longest` events, and what followed each position.

    `follows[p]` is the request that comes next after timeline position p, or -1; `requests` holds the item rows of
    each and `weight` what each of them counts in the loss, `asker` whose it is, `asked_at` the timeline position before
    which its history stands; `liked` all target items of each user, which never count as negatives.
    """

    timeline: Timeline
    user: NDArray[np.int64]  # [n_windows]
    start: NDArray[np.int64]  # [n_windows] timeline positions
    stop: NDArray[np.int64]  # [n_windows]
    follows: NDArray[np.int64]  # [len(timeline.item)]
    requests: CSR
    weight: NDArray[np.float32]  # [len(requests.rows)]
    asker: NDArray[np.int64]  # [n_requests]
    asked_at: NDArray[np.int64]  # [n_requests]
    liked: CSR

    @classmethod
    def build(
        cls, events: Events, train: NDArray[np.bool_], counts: NDArray[np.bool_] | NDArray[np.float32], longest: int
    ) -> Windows:
        """`train` bool [n_events], the first of each user's: what may be read; `counts` [n_events]: which of them may
        be a target as well, and what it counts, 0 for nothing. A stretch without any target is left out."""
        timeline, position = Timeline.from_events(events)
        target = train & (counts > 0)
        groups = group_targets(events, target)
        requests = groups.requests(events, target)
        follows = _follows(events, position, train, groups)
        user, start, stop = _cut(timeline.offsets[:-1], _last_positions(events, position, train), longest)
        told = np.concatenate(([0], np.cumsum(follows >= 0)))
        useful = told[stop] > told[start]
        return cls(
            timeline=timeline,
            user=user[useful],
            start=start[useful],
            stop=stop[useful],
            follows=follows,
            requests=CSR(requests.target_ptr, requests.target_item.astype(np.int64)),
            weight=_weights(events, groups, counts),
            asker=requests.user.astype(np.int64),
            asked_at=position[requests.end],
            liked=_liked(events, target),
        )


def _weights(events: Events, groups: Groups, counts: NDArray[np.bool_] | NDArray[np.float32]) -> NDArray[np.float32]:
    """What each item of each request counts: the most that one of its events does."""
    group = np.repeat(np.arange(len(groups.end)), np.diff(groups.ptr))
    keys, which = np.unique(group << 32 | events.item[groups.member], return_inverse=True)
    weight = np.zeros(len(keys), np.float32)
    np.maximum.at(weight, which, counts[groups.member].astype(np.float32))
    return weight


def _follows(
    events: Events, position: NDArray[np.int64], train: NDArray[np.bool_], groups: Groups
) -> NDArray[np.int64]:
    """For each timeline position the first request after it, of the same user, or -1 where it may not be read.

    Nothing follows a position inside a request but its last, so that a basket is told as one thing.
    """
    led = np.diff(position) == 2  # a query stands before the event
    following = _following(events, groups)
    event = np.arange(len(events))
    follows = np.full(int(position[-1]), -1, np.int64)
    follows[position[:-1] + led] = np.where(train, following(event + 1), -1)
    follows[position[:-1][led]] = np.where(train, following(event), -1)[led]
    return follows


def _following(events: Events, groups: Groups) -> Callable[[NDArray[np.int64]], NDArray[np.int64]]:
    """Looks up the next request of each event's user, at a moment with so many events behind it, int64 [n_events]."""
    last = groups.member[groups.ptr[1:] - 1]
    user = np.append(events.user[last], -1)
    steps = np.zeros(len(events) + 2, np.int64)
    np.add.at(steps, groups.end + 1, 1)
    np.add.at(steps, last + 1, -1)
    inside = np.cumsum(steps) > 0

    def following(behind: NDArray[np.int64]) -> NDArray[np.int64]:
        request = np.searchsorted(groups.end, behind)  # ends ascend as their requests do
        return np.where((user[request] == events.user) & ~inside[behind], request, -1)

    return following


def _last_positions(events: Events, position: NDArray[np.int64], train: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Timeline position after the last training event of each user."""
    ends = events.offsets[:-1].copy()
    at = np.flatnonzero(train)
    np.maximum.at(ends, events.user[at], at + 1)
    return position[ends]


def _cut(
    starts: NDArray[np.int64], ends: NDArray[np.int64], longest: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Windows of at most `longest` positions, cut from the end of each user's stretch."""
    counts = -(-(ends - starts) // longest)
    user = np.repeat(np.arange(len(starts)), counts)
    nth = np.arange(len(user)) - np.repeat(np.cumsum(counts) - counts, counts)
    stop = ends[user] - nth * longest
    return user, np.maximum(starts[user], stop - longest), stop


def _liked(events: Events, target: NDArray[np.bool_]) -> CSR:
    keys = np.sort(events.user[target].astype(np.int64) << 32 | events.item[target])
    keys = keys[np.diff(keys, prepend=-1) != 0]
    return CSR(np.searchsorted(keys >> 32, np.arange(len(events.offsets))), keys & 0xFFFFFFFF)
