"""Facts and notes about a data set, for its report."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa

from retrieval.data.check_report import Json
from retrieval.data.events import Events
from retrieval.data.judgements import SPLITS, Judgements, Queries
from retrieval.data.relations import KINDS, Relations
from retrieval.data.schema import CONTRACT
from retrieval.data.targets import kind_counts, kinds_unknown, targets_of_events
from retrieval.errors import ShortlistError
from retrieval.settings import AUTO
from retrieval.text.analysis import Language
from retrieval.text.descriptions import boilerplate_of
from retrieval.text.text_model import text_model_for

GRADES_LISTED = 20


def facts_of(
    n_items: int,
    n_users: int,
    events: Events | None,
    queries: Queries | None,
    judgements: Judgements | None,
    relations: Relations | None,
    language: Language,
) -> dict[str, Json]:
    """Counts and spans of the data set by name, in JSON types."""
    facts: dict[str, Json] = {"items": n_items, "language": str(language), "users": n_users}
    facts["default text model"] = str(text_model_for(AUTO, language))
    if events is not None and len(events):
        facts |= _event_facts(events, n_items)
    if queries is not None:
        facts["queries"] = len(queries)
    if judgements is not None and len(judgements):
        facts |= _judgement_facts(judgements)
    if relations is not None and len(relations):
        counts = np.bincount(relations.kind, minlength=len(KINDS)).tolist()
        facts["relations"] = {kind: count for kind, count in zip(KINDS, counts, strict=True) if count}
    return facts


def notes_on(folder: Path, items: pa.Table, events: Events | None) -> tuple[str, ...]:
    """Sentences about what is allowed but may be a mistake."""
    notes = []
    unread = sorted(path.name for path in folder.glob("*.parquet") if path.name not in CONTRACT)
    if unread:
        notes.append(f"not part of the contract and not read: {', '.join(unread)}")
    if shared := sorted(boilerplate_of(items)):
        example = f"{shared[0]!r} and {len(shared) - 1:,} more" if len(shared) > 1 else repr(shared[0])
        notes.append(f"sentences that a tenth of the descriptions share are not read by models: {example}")
    if events is not None and len(events):
        if events.time.min() == events.time.max():
            notes.append("all events have the same timestamp: the order of rows stands for the order in time")
        notes += _notes_on_kinds(events)
        repeats = exact_repeats(events)
        if repeats:
            notes.append(f"{repeats:,} events repeat another exactly (same user, item, event, time, basket); all count")
    return tuple(notes)


def _notes_on_kinds(events: Events) -> list[str]:
    """What a run would ask about the kinds of events, or which of them it does not know."""
    try:
        targets_of_events(events)
    except ShortlistError as error:
        return [f"a run stops here: {error}"]
    unknown = kinds_unknown(events)
    if not unknown or len(events.kinds) == 1:
        return []
    listed = ", ".join(f"{name} ({n:,})" for name, n in unknown.items())
    return [
        f"kinds of events whose names are not known: {listed}; they are part of histories, but nothing predicts them; "
        "if they show what shoppers wanted, name them in data.target_events"
    ]


def exact_repeats(events: Events) -> int:
    """The number of events equal to an earlier one in user, item, kind, time and basket."""
    order = np.lexsort((events.basket, events.kind, events.item, events.time, events.user))
    columns = (events.user, events.item, events.kind, events.time, events.basket)
    same = [column[order][1:] == column[order][:-1] for column in columns]
    return int(np.logical_and.reduce(same).sum())


def _event_facts(events: Events, n_items: int) -> dict[str, Json]:
    return {
        "events": len(events),
        "events by kind": kind_counts(events),
        "first event": _iso(int(events.time.min())),
        "last event": _iso(int(events.time.max())),
        "items without an event": n_items - len(np.unique(events.item)),
        "baskets": len(np.unique(events.basket[events.basket >= 0])),
        **_target_facts(events),
    }


def _target_facts(events: Events) -> dict[str, Json]:
    """What a run would predict, if it can tell, and how many returns there are."""
    try:
        targets = targets_of_events(events)
    except ShortlistError:
        return {}
    facts: dict[str, Json] = {"target events": str(targets)}
    returns = int(events.is_return().sum())
    if returns:
        matched = len(np.unique(targets.cancelled_by[targets.cancelled_by >= 0]))
        facts["returns"] = {"in all": returns, "without an earlier event that they cancel": returns - matched}
    return facts


def _judgement_facts(judgements: Judgements) -> dict[str, Json]:
    grades, counts = np.unique(judgements.grade, return_counts=True)
    facts: dict[str, Json] = {"judgements": len(judgements), "judged queries": len(np.unique(judgements.query))}
    if len(grades) <= GRADES_LISTED:
        facts["grades"] = {f"{grade:.4g}": count for grade, count in zip(grades.tolist(), counts.tolist(), strict=True)}
    else:
        facts["grades"] = f"{len(grades):,} from {grades[0]:.4g} to {grades[-1]:.4g}"
    if (judgements.split >= 0).any():
        counts = np.bincount(judgements.split, minlength=len(SPLITS))
        facts["judgements by split"] = dict(zip(SPLITS, counts.tolist(), strict=True))
    return facts


def _iso(microseconds: int) -> str:
    return f"{np.datetime64(microseconds, 'us').astype('datetime64[s]')}Z"
