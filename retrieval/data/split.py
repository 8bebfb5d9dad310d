"""Which events and judgements train what, and which measure it: the folds that every release records."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from retrieval.data.audit import Bools
from retrieval.data.dataset import DataSet
from retrieval.data.events import Codes, Events
from retrieval.data.judgements import SPLITS
from retrieval.data.requests import Groups, Positions, Requests, cancelled_by, group_targets
from retrieval.data.time_units import DAY
from retrieval.errors import BadConfig, BadData

__all__ = ["EventSplit", "JudgementSplit", "Requests", "split_events", "split_judgements"]

SplitKind = Literal["auto", "temporal", "leave_one_out"]
EVENT_FOLDS = ("tower_valid", "ranker_train", "ranker_valid", "gate", "test")
JUDGEMENT_FOLDS = ("train", "ranker_valid", "gate", "test")
USER_SHARES = (0.10, 0.45, 0.10, 0.35)  # of the last request but one, by hash of the user; the last is test
WINDOW_SHARES = (0.03, 0.10, 0.03, 0.06)  # of the span of the target events, before the test window
QUERY_SHARES = (0.70, 0.05, 0.05, 0.20)
VALID_SHARE = 0.10  # of the train queries, where the split column knows no valid
LONG_SPAN, LONG_TEST, SHORT_TEST = 180 * DAY, 30 * DAY, 0.15
WIDER = (1.0, 1.5, 2.0, 3.0)  # a window without a request is tried wider
MIN_TEST = 20
OUTLIERS = 0.01  # of the target events may lie before the span, so that one odd date does not stretch it
SAME_TIME = 0.5  # of the users at one first or last instant: then times are positions, not dates
STRENGTH = (
    ("purchase", "purchased", "buy", "bought", "order", "transaction", "sale"),
    ("cart", "addtocart", "basket"),
    ("favourite", "favorite", "fav", "wishlist", "like"),
    ("click",),
    ("view", "pageview", "pv"),
)


@dataclass(frozen=True, kw_only=True)
class EventSplit:
    """The folds of the events.

    `train` bool [n_events] are what the towers may read and learn from, always the first of each user's; of these
    `train_target` are what they learn to predict. `folds` are requests by name, as in `EVENT_FOLDS`; any may be empty.
    `windows` are, in a temporal split, the start (inclusive) and end (exclusive) of each fold in microseconds since
    1970. `reason` is the sentence to print.
    """

    kind: Literal["temporal", "leave_one_out"]
    reason: str
    target_events: tuple[str, ...]
    train: Bools
    train_target: Bools
    folds: Mapping[str, Requests]
    windows: Mapping[str, tuple[int, int]] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class JudgementSplit:
    """The folds of the judged queries: int32 positions in the data set's queries, ascending, by name, as in
    `JUDGEMENT_FOLDS`. A query is in one fold with all its judgements. `reason` is the sentence to print."""

    folds: Mapping[str, Codes]
    reason: str


def split_events(
    dataset: DataSet, *, kind: SplitKind = "auto", target_events: Sequence[str] | None = None
) -> EventSplit:
    """Divide the events of a data set.

    Args:
        kind: `temporal` (consecutive windows, nobody's future in anyone's training), `leave_one_out` (each user's last
            request is test, the last but one goes by hash of the user id), or `auto`: temporal where baskets exist and
            timestamps differ across users.
        target_events: the kinds of event to predict; purchases by default, else the strongest kind there is.

    Raises:
        BadConfig: an unknown kind of split or event, or a temporal split that the times do not bear.
        BadData: there are no events, or all are returns.
    """
    if kind not in ("auto", "temporal", "leave_one_out"):
        raise BadConfig(f"split is {kind!r}; give auto, temporal or leave_one_out")
    if dataset.events is None:
        raise BadData("the data set has no events to split; it needs events.parquet")
    events = dataset.events
    names = _target_names(events, target_events)
    target = events.is_kind(names) & ~events.is_return()
    if not target.any():
        raise BadConfig(f"target_events is {', '.join(names)}, which only gives back; name what shoppers should do")
    source = _Targets(events, names, target, cancelled_by(events, target), group_targets(events, target))
    why_not = "asked for" if kind == "leave_one_out" else _why_not_temporal(events, asked=kind == "temporal")
    if not why_not:
        split = _temporal(source)
        if split is not None:
            return split
        why_not = f"the time windows would hold fewer than {MIN_TEST} test requests, or none in another fold"
    if kind == "temporal":
        raise BadConfig(f"split is temporal, but {why_not}; take auto or leave_one_out")
    return _leave_one_out(source, dataset.user_ids, why_not)


def split_judgements(dataset: DataSet) -> JudgementSplit:
    """Divide the judged queries: by the judgements' own column, else 70/10/20 by hash of the query id.

    `valid` is halved by hash into `ranker_valid` and `gate`. A query whose judgements name several splits goes to the
    strictest (test, then valid). Where the column leaves train or test empty, hashes decide.

    Raises:
        BadData: the data set has no judgements.
    """
    if dataset.judgements is None or dataset.queries is None:
        raise BadData("the data set has no judgements to split; it needs queries.parquet and judgements.parquet")
    judged, ids = dataset.judgements, dataset.queries.ids
    queries = np.unique(judged.query)
    strictest = np.full(len(ids), -1, np.int8)
    np.maximum.at(strictest, judged.query, judged.split)
    of = strictest[queries]
    if not {0, 2} <= set(of.tolist()):
        lacking = "the judgements have no split column" if (of < 0).all() else "their split column lacks train or test"
        folds = _by_hash(queries, ids, JUDGEMENT_FOLDS, QUERY_SHARES)
        return JudgementSplit(folds=folds, reason=f"queries by hash of their id, 70/10/20: {lacking}")
    valid, train, note = queries[of == 1], queries[of == 0], ""
    if not len(valid):
        parts = _by_hash(train, ids, ("train", "valid"), (1 - VALID_SHARE, VALID_SHARE))
        train, valid, note = parts["train"], parts["valid"], "; it has no valid, so a tenth of train is held out"
    mixed = len(np.unique(judged.query[judged.split != strictest[judged.query]]))
    if mixed:
        note += f"; {mixed:,} queries name several splits and go to the strictest"
    halves = _by_hash(valid, ids, ("ranker_valid", "gate"), (0.5, 0.5))
    folds = {"train": train, **halves, "test": queries[of == SPLITS.index("test")]}
    return JudgementSplit(folds=folds, reason=f"queries by the judgements' own split column{note}")


@dataclass(frozen=True)
class _Targets:
    """What both ways of splitting start from."""

    events: Events
    names: tuple[str, ...]
    target: Bools
    cancelled_by: Positions
    groups: Groups

    def alive(self, known: Bools) -> Bools:
        """Target events that no return of the mask `known` [n_events] cancels, bool [n_events]."""
        return self.target & ~((self.cancelled_by >= 0) & known[self.cancelled_by])


def _leave_one_out(source: _Targets, user_ids: Sequence[str], why: str) -> EventSplit:
    events = source.events
    requests = source.groups.requests(events, source.alive(np.ones(len(events), bool)))
    of_user = np.bincount(requests.user, minlength=len(user_ids))
    from_last = np.cumsum(of_user)[requests.user] - 1 - np.arange(len(requests))
    test = (from_last == 0) & (of_user[requests.user] >= 2)
    held = np.flatnonzero((from_last == 1) & (of_user[requests.user] >= 3))
    boundary = events.offsets[1:].copy()
    boundary[requests.user[test]] = requests.end[test]
    boundary[requests.user[held]] = requests.end[held]
    train = np.arange(len(events)) < boundary[events.user]
    parts = _by_hash(requests.user[held], user_ids, EVENT_FOLDS[:-1], USER_SHARES)
    folds = {name: requests.select(held[np.isin(requests.user[held], users)]) for name, users in parts.items()}
    return EventSplit(
        kind="leave_one_out",
        reason=f"leave_one_out: {why}",
        target_events=source.names,
        train=train,
        train_target=train & source.alive(train),
        folds={**folds, "test": requests.select(test)},
    )


def _temporal(source: _Targets) -> EventSplit | None:
    """Consecutive windows; None where they would be too thin."""
    events = source.events
    times = events.time[source.target]
    begin, end = int(np.quantile(times, OUTLIERS, method="lower")), int(times.max()) + 1
    for wider in WIDER:
        edges = _edges(begin, end, wider)
        folds = _window_folds(source, edges)
        train = events.time < edges[0]
        train_target = train & source.alive(train)
        if all(map(len, folds.values())) and len(folds["test"]) >= MIN_TEST and train_target.any():
            break
    else:
        return None
    days = (edges[-1] - edges[-2]) / DAY
    return EventSplit(
        kind="temporal",
        reason=f"temporal: there are baskets and timestamps differ across users; the last {days:.3g} days are test",
        target_events=source.names,
        train=train,
        train_target=train_target,
        folds=folds,
        windows={name: (edges[i], edges[i + 1]) for i, name in enumerate(EVENT_FOLDS)},
    )


def _edges(begin: int, end: int, wider: float) -> list[int]:
    """Where the five windows start, and where the last ends."""
    span = end - begin
    test = LONG_TEST if span >= LONG_SPAN else int(SHORT_TEST * span)
    widths = [*(int(share * span * wider) for share in WINDOW_SHARES), test]
    return [end - sum(widths[i:]) for i in range(len(widths))] + [end]


def _window_folds(source: _Targets, edges: list[int]) -> dict[str, Requests]:
    """The requests that begin in each window. What trains or stops a model knows of no return after the gate began."""
    events, gate, test = source.events, edges[3], edges[4]
    known_until = (gate, gate, gate, test, None)
    folds = {}
    for i, (name, until) in enumerate(zip(EVENT_FOLDS, known_until, strict=True)):
        known = np.ones(len(events), bool) if until is None else events.time < until
        requests = source.groups.requests(events, source.alive(known))
        folds[name] = requests.select((requests.time >= edges[i]) & (requests.time < edges[i + 1]))
    return folds


def _why_not_temporal(events: Events, *, asked: bool) -> str:
    """Why times cannot divide the events; empty where they can. Asked for, they need no baskets."""
    users = np.flatnonzero(np.diff(events.offsets))
    first, last = events.time[events.offsets[:-1][users]], events.time[events.offsets[1:][users] - 1]
    if not asked and not events.has_baskets:
        return "there are no baskets"
    for name, times in (("first", first), ("last", last)):
        share = np.unique(times, return_counts=True)[1].max() / len(users)
        if share > SAME_TIME and len(users) > 1:
            return f"timestamps are positions rather than dates ({share:.0%} of the users share their {name} one)"
    return ""


def _target_names(events: Events, asked: Sequence[str] | None) -> tuple[str, ...]:
    if asked is not None:
        unknown = sorted(set(asked) - set(events.kinds))
        if unknown or not asked:
            raise BadConfig(f"target_events names {unknown or 'nothing'}; the events are: {', '.join(events.kinds)}")
        return tuple(sorted(set(asked)))
    counts = np.bincount(events.kind[~events.is_return()], minlength=len(events.kinds))
    if not counts.any():
        raise BadData("all events are returns; there is nothing to predict")
    for names in STRENGTH:
        found = tuple(kind for kind, n in zip(events.kinds, counts, strict=True) if n and _bare(kind) in names)
        if found:
            return found
    return (events.kinds[int(counts.argmax())],)


def _bare(kind: str) -> str:
    """
    >>> _bare("Add-to_Cart")
    'addtocart'
    """
    return re.sub(r"[\W_]", "", kind.casefold())


def _by_hash(
    codes: NDArray[np.integer], ids: Sequence[str], names: Sequence[str], shares: Sequence[float]
) -> dict[str, Codes]:
    """Codes, ascending, divided in the exact shares in the order of a hash of their ids: the same in every run, and
    nearly the same when others come or go."""
    hashes = [hashlib.blake2b(ids[code].encode(), digest_size=8, person=b"shortlist-fold").digest() for code in codes]
    order = np.array(sorted(range(len(hashes)), key=hashes.__getitem__), np.int64)
    cuts = np.cumsum(_sizes(len(codes), shares))[:-1]
    return {name: np.sort(codes[at]).astype(np.int32) for name, at in zip(names, np.split(order, cuts), strict=True)}


def _sizes(n: int, shares: Sequence[float]) -> list[int]:
    """`n` divided by largest remainder; nobody goes without while there is one for each.

    >>> _sizes(100, (0.1, 0.45, 0.1, 0.35)), _sizes(5, (0.1, 0.45, 0.1, 0.35)), _sizes(1, (0.5, 0.5))
    ([10, 45, 10, 35], [1, 2, 1, 1], [1, 0])
    """
    least = 1 if n >= len(shares) else 0
    sizes = [max(least, int(n * share)) for share in shares]
    while sum(sizes) != n:
        lack = [n * share - size for share, size in zip(shares, sizes, strict=True)]
        if sum(sizes) < n:
            sizes[lack.index(max(lack))] += 1
        else:
            sizes[max((i for i in range(len(sizes)) if sizes[i] > least), key=lambda i: -lack[i])] -= 1
    return sizes
