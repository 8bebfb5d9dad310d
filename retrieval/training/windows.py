"""Training windows of the history model: stretches of a user's events, with the request that followed each event."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from retrieval.data.events import Events
from retrieval.data.requests import Groups, group_targets
from retrieval.data.split import EventSplit
from retrieval.data.timeline import Timeline
from retrieval.errors import BadConfig
from retrieval.topk import CSR


@dataclass(frozen=True, kw_only=True)
class Windows:
    """Stretches of the timeline of at most `longest` positions each, and the request that follows each position.

    `follows[p]` is the next request after timeline position p, -1 for none. `requests` lists the target item rows of
    each request and `weight` their weights in the loss; `request_user` is its user, and its history is what stands
    before the timeline position `request_position`. `liked` lists all targets of each user, which are never negatives.
    """

    timeline: Timeline
    user: NDArray[np.int64]  # [n_windows]
    start: NDArray[np.int64]  # [n_windows] timeline positions
    stop: NDArray[np.int64]  # [n_windows]
    follows: NDArray[np.int64]  # [len(timeline.item)]
    requests: CSR
    weight: NDArray[np.float32]  # [len(requests.rows)]
    request_user: NDArray[np.int64]  # [n_requests]
    request_position: NDArray[np.int64]  # [n_requests]
    liked: CSR

    @classmethod
    def build(
        cls, events: Events, train: NDArray[np.bool_], counts: NDArray[np.bool_] | NDArray[np.float32], longest: int
    ) -> Windows:
        """Windows over the training events.

        `train` bool [n_events] marks what may be read, a prefix of each user's events; `counts` [n_events] is the
        weight of each event as a target, 0 for none. Windows without a target are left out.
        """
        timeline, position = Timeline.from_events(events)
        target = train & (counts > 0)
        groups = group_targets(events, target)
        requests = groups.requests(events, target)
        follows = _follows(events, position, train, groups)
        user, start, stop = _cut(timeline.offsets[:-1], _last_positions(events, position, train), longest)
        n_followed = np.concatenate(([0], np.cumsum(follows >= 0)))
        useful = n_followed[stop] > n_followed[start]
        return cls(
            timeline=timeline,
            user=user[useful],
            start=start[useful],
            stop=stop[useful],
            follows=follows,
            requests=CSR(requests.target_ptr, requests.target_item.astype(np.int64)),
            weight=_weights(events, groups, counts),
            request_user=requests.user.astype(np.int64),
            request_position=position[requests.end],
            liked=_liked(events, target),
        )


def target_weights(events: Events, split: EventSplit, weights: Mapping[str, float]) -> NDArray[np.float32]:
    """The weight of each event as a training target, float32 [n_events], 0 for none.

    `weights` are by kind of event; returned purchases and other kinds get 0. Without `weights` the split's own targets
    get 1. Raises BadConfig for an unknown kind.
    """
    if not weights:
        return split.train_target.astype(np.float32)
    if unknown := sorted(set(weights) - set(events.kinds)):
        raise BadConfig(
            f"target_weights names {', '.join(unknown)}, which no event is; choose from: {', '.join(events.kinds)}"
        )
    counts = np.zeros(len(events), np.float32)
    for kind, weight in weights.items():
        counted = split.train_target if kind in split.target_events else split.train & ~events.is_return()
        counts[counted & events.is_kind([kind])] = weight
    return counts


def _weights(events: Events, groups: Groups, counts: NDArray[np.bool_] | NDArray[np.float32]) -> NDArray[np.float32]:
    """The weight of each item of each request, float32 [n]: the largest among its events."""
    group = np.repeat(np.arange(len(groups.end)), np.diff(groups.ptr))
    keys, which = np.unique(group << 32 | events.item[groups.member], return_inverse=True)
    weight = np.zeros(len(keys), np.float32)
    np.maximum.at(weight, which, counts[groups.member].astype(np.float32))
    return weight


def _follows(
    events: Events, position: NDArray[np.int64], train: NDArray[np.bool_], groups: Groups
) -> NDArray[np.int64]:
    """For each timeline position the next request of the same user, -1 where there is none or it is held out.

    Positions within a request have no next request, its last one excepted: a basket is predicted as a whole.
    """
    led = np.diff(position) == 2  # a query stands before the event
    following = _following(events, groups)
    event = np.arange(len(events))
    follows = np.full(int(position[-1]), -1, np.int64)
    follows[position[:-1] + led] = np.where(train, following(event + 1), -1)
    follows[position[:-1][led]] = np.where(train, following(event), -1)[led]
    return follows


def _following(events: Events, groups: Groups) -> Callable[[NDArray[np.int64]], NDArray[np.int64]]:
    """A function from event positions, int64 [n_events], to the next request of the event's user from there, or -1."""
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
    """The timeline position after each user's last training event, int64 [n_users]."""
    ends = events.offsets[:-1].copy()
    at = np.flatnonzero(train)
    np.maximum.at(ends, events.user[at], at + 1)
    return position[ends]


def _cut(
    starts: NDArray[np.int64], ends: NDArray[np.int64], longest: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """(user, start, stop) of windows of at most `longest` positions, cut from the end of each user's events."""
    counts = -(-(ends - starts) // longest)
    user = np.repeat(np.arange(len(starts)), counts)
    nth = np.arange(len(user)) - np.repeat(np.cumsum(counts) - counts, counts)
    stop = ends[user] - nth * longest
    return user, np.maximum(starts[user], stop - longest), stop


def _liked(events: Events, target: NDArray[np.bool_]) -> CSR:
    keys = np.sort(events.user[target].astype(np.int64) << 32 | events.item[target])
    keys = keys[np.diff(keys, prepend=-1) != 0]
    return CSR(np.searchsorted(keys >> 32, np.arange(len(events.offsets))), keys & 0xFFFFFFFF)
