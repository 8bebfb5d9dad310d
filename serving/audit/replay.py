"""Asks the requests of an audit log again, of another release or under other rules, and says what changed."""

from __future__ import annotations

import dataclasses
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from statistics import mean, median
from typing import TYPE_CHECKING

import numpy as np

from retrieval.data.time_units import SECOND
from retrieval.errors import BadRequest
from serving.answering.deadline import Deadline
from serving.answering.pipeline import answer_batch
from serving.audit.records import AuditRecord, features_of
from serving.rules.compiled import CompiledRules
from serving.rules.load import RuleSet

if TYPE_CHECKING:
    from serving.answering.release_state import ReleaseState

PERSISTENCE = 0.9  # of rank-biased overlap: a reader goes on to the next place with this probability
TOLERANCE = 1e-5  # between a feature as it was and as it is computed again, relative to its size
SHOWN = 10  # items that are named


@dataclass(frozen=True)
class Changes:
    """How the answers to some requests differ from those that were kept; shares and means, None without a request."""

    requests: int
    same: float | None  # share of the answers that are the same items in the same order
    same_first: float | None  # share whose first item is the same
    overlap: float | None  # mean share of the items that are in both
    rank_biased_overlap: float | None  # the mean of Webber et al. 2010, the first places counting most
    before_ms: float | None  # median time of an answer then, on the machine of then
    now_ms: float | None  # and now

    @classmethod
    def of(cls, pairs: Sequence[tuple[AuditRecord, Sequence[str], float]]) -> Changes:
        """Of records, each with the items that are answered now and how long that took, in milliseconds."""
        if not pairs:
            return cls(0, None, None, None, None, None, None)
        before = [list(record.items) for record, _, _ in pairs]
        after = [list(items) for _, items, _ in pairs]
        both = list(zip(before, after, strict=True))
        shared = [len({*one} & {*other}) / max(len(one), len(other)) if one or other else 1.0 for one, other in both]
        return cls(
            requests=len(pairs),
            same=mean(one == other for one, other in both),
            same_first=mean(one[:1] == other[:1] for one, other in both),
            overlap=mean(shared),
            rank_biased_overlap=mean(rank_biased_overlap(one, other) for one, other in both),
            before_ms=median(sum(record.timings_ms.values()) for record, _, _ in pairs),
            now_ms=median(took for _, _, took in pairs),
        )


@dataclass(frozen=True, kw_only=True)
class Replay:
    """What asking again found.

    `entered` and `left` are how often an item is answered now and was not, or was and is not, the most often first.
    `skew` is, by feature, in how many answers it is computed otherwise now, and the largest difference; `checked` are
    the answers whose features were compared. `refused` are requests that this release refuses, with the first reason.
    """

    releases: tuple[str, ...]
    release: str
    total: Changes
    by_task: dict[str, Changes]
    entered: tuple[tuple[str, int], ...]
    left: tuple[tuple[str, int], ...]
    unreadable: int
    without_inputs: int
    refused: int = 0
    refusal: str = ""
    checked: int | None = None
    skew: dict[str, tuple[int, float]] = field(default_factory=dict)


def replay(
    state: ReleaseState, records: Iterable[AuditRecord | None], *, rules: RuleSet | None = None, check: bool = False
) -> Replay:
    """Asks every record with inputs again of a state, under `rules`, as they hold at the record's time; with `check`
    compares features, too. Raises BadRules for rules that do not fit the items."""
    moment = [0.0]  # seconds since 1970
    ruled = None if rules is None else CompiledRules.of(rules, state.version, state.analyzer, lambda: moment[0])
    state = dataclasses.replace(state, rules=ruled)
    pairs = defaultdict[str, list[tuple[AuditRecord, Sequence[str], float]]](list)
    counts, entered, left = Counter[str](), Counter[str](), Counter[str]()
    skew, releases, refusal, checked = dict[str, tuple[int, float]](), dict[str, None](), "", 0
    for record in records:
        if record is None or record.inputs is None:
            counts["unreadable" if record is None else "without_inputs"] += 1
            continue
        moment[0] = record.at / SECOND
        try:
            batch = answer_batch(state, record.request(), Deadline(None))
        except BadRequest as error:
            counts["refused"] += 1
            refusal = refusal or str(error)
            continue
        answer, releases[record.release] = batch.answers[0], None
        items = [hit.item_id for hit in answer.items]
        pairs[record.task].append((record, items, sum(answer.timings_ms.values())))
        entered.update({*items} - {*record.items})
        left.update({*record.items} - {*items})
        if check and record.features is not None:
            checked += 1
            compare_features(record, items, features_of(batch) or {}, skew)
    every = [one for some in pairs.values() for one in some]
    return Replay(
        releases=tuple(releases),
        release=state.release.id,
        total=Changes.of(every),
        by_task={task: Changes.of(some) for task, some in sorted(pairs.items())},
        entered=tuple(entered.most_common(SHOWN)),
        left=tuple(left.most_common(SHOWN)),
        unreadable=counts["unreadable"],
        without_inputs=counts["without_inputs"],
        refused=counts["refused"],
        refusal=refusal,
        checked=checked if check else None,
        skew=dict(sorted(skew.items(), key=lambda one: -one[1][0])),
    )


def compare_features(
    record: AuditRecord, items: Sequence[str], now: dict[str, list[float | None]], skew: dict[str, tuple[int, float]]
) -> None:
    """Counts, in `skew`, each feature that differs on any item that was answered both then and now, and by how much;
    one that is missing on one side differs by infinity."""
    assert record.features is not None
    places = [(at, items.index(item)) for at, item in enumerate(record.items) if item in items]
    for name in {*record.features} | {*now}:
        then, here = record.features.get(name), now.get(name)
        differences = [
            np.inf if then is None or here is None else difference(then[one], here[other]) for one, other in places
        ]
        largest = max(differences, default=0.0)
        if largest > TOLERANCE:
            times, before = skew.get(name, (0, 0.0))
            skew[name] = (times + 1, max(before, float(largest)))


def difference(one: float | None, other: float | None) -> float:
    """Between two values of a feature, None for missing: relative to the larger, where that is above 1.

    >>> difference(None, None), difference(None, 1.0), difference(200.0, 100.0), difference(0.5, 0.25)
    (0.0, inf, 0.5, 0.25)
    """
    if one is None or other is None:
        return 0.0 if one is other else np.inf
    return abs(one - other) / max(1.0, abs(one), abs(other))


def rank_biased_overlap(one: Sequence[str], other: Sequence[str], persistence: float = PERSISTENCE) -> float:
    """How alike two rankings are, from 0 to 1, the first places counting most; normalised to the longer of them.

    >>> rank_biased_overlap("abc", "abc"), rank_biased_overlap("ab", "cd"), rank_biased_overlap("", "")
    (1.0, 0.0, 1.0)
    """
    depths = range(1, max(len(one), len(other)) + 1)
    weights = [persistence ** (depth - 1) for depth in depths]
    agreed = [len({*one[:depth]} & {*other[:depth]}) / depth for depth in depths]
    return float(np.average(agreed, weights=weights)) if weights else 1.0
