"""Training windows of the history part: every prefix of a user's training events with the request that followed it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from retrieval.dataset import Events
from retrieval.timeline import Timeline
from retrieval.topk import CSR


@dataclass(frozen=True, kw_only=True)
class Windows:
    """Stretches of the timeline of at most `longest` events, and what followed each position.

    `follows[p]` is the request that comes next after timeline position p, or -1; `requests` holds the item rows of
    each; `liked` all target items of each user, which never count as negatives.
    """

    timeline: Timeline
    user: NDArray[np.int64]  # [n_windows]
    start: NDArray[np.int64]  # [n_windows] timeline positions
    stop: NDArray[np.int64]  # [n_windows]
    follows: NDArray[np.int64]  # [len(timeline.item)]
    requests: CSR
    liked: CSR

    @classmethod
    def build(cls, events: Events, train: NDArray[np.bool_], is_target: NDArray[np.bool_], longest: int) -> Windows:
        """`train` bool [n_events]: what may be read; `is_target`: what may be a target as well. Both are prefixes of
        each user's events, so that a window never reads past what it may."""
        timeline, position = Timeline.from_events(events)
        request, requests = _requests(events, train & is_target)
        follows = _follows(events, timeline, position, train, request)
        last = _last_positions(events, position, train)
        user, start, stop = _cut(timeline.offsets[:-1], last, longest)
        useful = np.array([(follows[a:b] >= 0).any() for a, b in zip(start, stop, strict=True)], bool)
        liked = _liked(events, train & is_target)
        return cls(
            timeline=timeline,
            user=user[useful],
            start=start[useful],
            stop=stop[useful],
            follows=follows,
            requests=requests,
            liked=liked,
        )


def _requests(events: Events, target: NDArray[np.bool_]) -> tuple[NDArray[np.int64], CSR]:
    """The request of each target event, -1 elsewhere; events of one basket or one instant of it are one request."""
    at = np.flatnonzero(target)
    begins = np.ones(len(at), bool)
    if events.has_baskets and len(at):
        user, time, basket = events.user[at], events.time[at], events.basket[at]
        together = (time[1:] == time[:-1]) | ((basket[1:] == basket[:-1]) & (basket[1:] >= 0))
        begins[1:] = ~(together & (user[1:] == user[:-1]))
    of = np.full(len(target), -1, np.int64)
    of[at] = np.cumsum(begins) - 1
    counts = np.bincount(of[at], minlength=int(begins.sum()))
    return of, CSR(np.concatenate(([0], np.cumsum(counts))).astype(np.int64), events.item[at].astype(np.int64))


def _follows(
    events: Events,
    timeline: Timeline,
    position: NDArray[np.int64],
    train: NDArray[np.bool_],
    request: NDArray[np.int64],
) -> NDArray[np.int64]:
    """For each timeline position the first request after it, in the same user's training events, or -1.

    Inside a request nothing follows but its last position, so that a basket is told as one thing.
    """
    n = len(request)
    following = np.full(n + 1, -1, np.int64)
    index = np.where(request >= 0, np.arange(n), n)
    nearest = np.minimum.accumulate(index[::-1])[::-1]  # first target event at or after each event
    found = nearest < n
    following[:n][found] = request[nearest[found]]
    same_user = np.zeros(n, bool)
    same_user[found] = events.user[nearest[found]] == events.user[found]
    following[:n][~same_user] = -1

    follows = np.full(len(timeline.item), -1, np.int64)
    at = position[:-1] + (np.diff(position) - 1)  # timeline position of each event itself
    next_event = np.append(following[1:n], -1)
    next_event[events.offsets[1:][events.offsets[1:] > 0] - 1] = -1  # a user's last event is followed by nothing
    own = request
    inside = (own >= 0) & (next_event == own)
    follows[at] = np.where(train & ~inside, next_event, -1)
    asked = np.flatnonzero(np.diff(position) == 2)  # a query's position is followed by what its own event leads to
    follows[position[:-1][asked]] = np.where(train[asked], following[:n][asked], -1)
    return follows


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
    pairs = np.unique(np.stack([events.user[target], events.item[target]]).astype(np.int64), axis=1)
    counts = np.bincount(pairs[0], minlength=len(events.offsets) - 1)
    return CSR(np.concatenate(([0], np.cumsum(counts))).astype(np.int64), pairs[1])
