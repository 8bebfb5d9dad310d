"""Splits of events and judgements into the folds that train, validate and test; every release records them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from retrieval.data.audit import Bools
from retrieval.data.dataset import DataSet
from retrieval.data.events import Codes, Events
from retrieval.data.judgements import SPLITS
from retrieval.data.requests import Groups, Requests, group_targets
from retrieval.data.targets import MinRating, Targets, targets_of_events
from retrieval.data.time_units import DAY
from retrieval.errors import BadConfig, BadData

__all__ = ["EventSplit", "JudgementSplit", "Requests", "split_events", "split_judgements"]

SplitKind = Literal["auto", "temporal", "leave_one_out"]
EVENT_FOLDS = ("tower_valid", "ranker_train", "ranker_valid", "gate", "test")
JUDGEMENT_FOLDS = ("train", "ranker_valid", "gate", "test")
USER_SHARES = (0.10, 0.45, 0.10, 0.35)  # leave_one_out: shares of the users' last request but one, without test
WINDOW_SHARES = (0.03, 0.10, 0.03, 0.06)  # temporal: shares of the time span of the target events, without test
QUERY_SHARES = (0.70, 0.05, 0.05, 0.20)  # judgements without a split column, in the order of JUDGEMENT_FOLDS
VALID_SHARE = 0.10  # share of the train queries that becomes valid where the split column names none
LONG_SPAN, LONG_TEST, SHORT_TEST = 180 * DAY, 30 * DAY, 0.15  # the test window: 30 days of a long span, else a share
WIDER = (1.0, 1.5, 2.0, 3.0)  # factors of the windows' widths, tried in turn until each holds a request
MIN_TEST = 20  # requests that a temporal test window has to hold
OUTLIERS = 0.01  # share of the target events that may lie before the span, so that one odd date does not stretch it
SAME_TIME = 0.5  # share of users with the same first or last time above which times count as positions, not dates


@dataclass(frozen=True, kw_only=True)
class EventSplit:
    """The folds of the events.

    `train` bool [n_events] marks the events that the towers train on, a prefix of each user's; `train_target` those of
    them that are targets. `folds` are requests by the names of `EVENT_FOLDS`, any of them possibly empty. `windows`
    are, in a temporal split, the start (inclusive) and end (exclusive) of each fold in microseconds since 1970.
    `reason` explains the choice of split in one sentence. `dated`: whether times are dates that all users share, rather
    than positions that put each user's events in order. `predicted` tells of the targets: which, why, and how many.
    """

    kind: Literal["temporal", "leave_one_out"]
    reason: str
    target_events: tuple[str, ...]
    train: Bools
    train_target: Bools
    folds: Mapping[str, Requests]
    windows: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    dated: bool = True
    predicted: str = ""


@dataclass(frozen=True, kw_only=True)
class JudgementSplit:
    """The folds of the judged queries; a query is in one fold with all its judgements.

    `folds` are int32 positions in the data set's queries, ascending, by the names of `JUDGEMENT_FOLDS`. `reason`
    explains the choice in one sentence.
    """

    folds: Mapping[str, Codes]
    reason: str


def split_events(
    dataset: DataSet,
    *,
    kind: SplitKind = "auto",
    target_events: Sequence[str] | None = None,
    min_rating: MinRating = "auto",
) -> EventSplit:
    """Splits the events of a data set into folds.

    Args:
        kind: `temporal` (consecutive time windows, so that nothing trains on the future), `leave_one_out` (each user's
            last request is test, the last but one goes to a fold by hash of the user id), or `auto`: temporal where
            there are baskets and timestamps differ across users.
        target_events: the kinds of events to predict; by default purchases, else the strongest kind there is.
        min_rating: see `targets_of_events`.

    Raises:
        BadConfig: an unknown kind of split or event, several kinds of which no name is known, or a temporal split of
            times that do not allow it.
        BadData: there are no events, or all are returns.
    """
    if kind not in ("auto", "temporal", "leave_one_out"):
        raise BadConfig(f"split is {kind!r}; give auto, temporal or leave_one_out")
    if dataset.events is None:
        raise BadData("the data set has no events to split; it needs events.parquet")
    events = dataset.events
    targets = targets_of_events(events, target_events, min_rating)
    source = _Source(events, targets, group_targets(events, targets.wanted))
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
    """Splits the judged queries into folds: by the judgements' `split` column, else 70/10/20 by hash of the query id.

    `valid` is halved by hash into `ranker_valid` and `gate`. A query whose judgements name several splits goes to the
    strictest (test, then valid). Where the column leaves train or test empty, hashes decide instead.

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
class _Source:
    """The input of both kinds of split."""

    events: Events
    targets: Targets
    groups: Groups


def _leave_one_out(source: _Source, user_ids: Sequence[str], why: str) -> EventSplit:
    events = source.events
    requests = source.groups.requests(events, source.targets.alive())
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
        target_events=source.targets.names,
        predicted=str(source.targets),
        train=train,
        train_target=train & source.targets.alive(train),
        folds={**folds, "test": requests.select(test)},
        dated=not _times_as_positions(events),
    )


def _temporal(source: _Source) -> EventSplit | None:
    """The split into consecutive time windows; None where a fold would be empty or the test fold too small."""
    events = source.events
    times = events.time[source.targets.wanted]
    begin, end = int(np.quantile(times, OUTLIERS, method="lower")), int(times.max()) + 1
    for wider in WIDER:
        edges = _edges(begin, end, wider)
        folds = _window_folds(source, edges)
        train = events.time < edges[0]
        train_target = train & source.targets.alive(train)
        if all(map(len, folds.values())) and len(folds["test"]) >= MIN_TEST and train_target.any():
            break
    else:
        return None
    days = (edges[-1] - edges[-2]) / DAY
    return EventSplit(
        kind="temporal",
        reason=f"temporal: there are baskets and timestamps differ across users; the last {days:.3g} days are test",
        target_events=source.targets.names,
        predicted=str(source.targets),
        train=train,
        train_target=train_target,
        folds=folds,
        windows={name: (edges[i], edges[i + 1]) for i, name in enumerate(EVENT_FOLDS)},
    )


def _edges(begin: int, end: int, wider: float) -> list[int]:
    """The starts of the five windows and the end of the last, in microseconds since 1970."""
    span = end - begin
    test = LONG_TEST if span >= LONG_SPAN else int(SHORT_TEST * span)
    widths = [*(int(share * span * wider) for share in WINDOW_SHARES), test]
    return [end - sum(widths[i:]) for i in range(len(widths))] + [end]


def _window_folds(source: _Source, edges: list[int]) -> dict[str, Requests]:
    """The requests of each window.

    Returns cancel targets of the folds before the gate until the gate window begins, those of the gate until the test
    window begins, and those of test always.
    """
    events, gate, test = source.events, edges[3], edges[4]
    known_until = (gate, gate, gate, test, None)
    folds = {}
    for i, (name, until) in enumerate(zip(EVENT_FOLDS, known_until, strict=True)):
        known = np.ones(len(events), bool) if until is None else events.time < until
        requests = source.groups.requests(events, source.targets.alive(known))
        folds[name] = requests.select((requests.time >= edges[i]) & (requests.time < edges[i + 1]))
    return folds


def _why_not_temporal(events: Events, *, asked: bool) -> str:
    """Why the events cannot be split by time; empty where they can. A split that was `asked` for needs no baskets."""
    if not asked and not events.has_baskets:
        return "there are no baskets"
    return _times_as_positions(events)


def _times_as_positions(events: Events) -> str:
    """Why the times put each user's events in order and date nothing; empty where they are dates."""
    users = np.flatnonzero(np.diff(events.offsets))
    first, last = events.time[events.offsets[:-1][users]], events.time[events.offsets[1:][users] - 1]
    for name, times in (("first", first), ("last", last)):
        share = np.unique(times, return_counts=True)[1].max() / len(users)
        if share > SAME_TIME and len(users) > 1:
            return f"timestamps are positions rather than dates ({share:.0%} of the users share their {name} one)"
    return ""


def _by_hash(
    codes: NDArray[np.integer], ids: Sequence[str], names: Sequence[str], shares: Sequence[float]
) -> dict[str, Codes]:
    """Splits codes in exact shares by the order of a hash of their ids; each part ascending.

    The split is the same in every run, and changes little as ids come or go.
    """
    hashes = [hashlib.blake2b(ids[code].encode(), digest_size=8, person=b"shortlist-fold").digest() for code in codes]
    order = np.array(sorted(range(len(hashes)), key=hashes.__getitem__), np.int64)
    cuts = np.cumsum(_sizes(len(codes), shares))[:-1]
    return {name: np.sort(codes[at]).astype(np.int32) for name, at in zip(names, np.split(order, cuts), strict=True)}


def _sizes(n: int, shares: Sequence[float]) -> list[int]:
    """`n` divided in the given shares by largest remainder; no part is empty if `n` allows it.

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
