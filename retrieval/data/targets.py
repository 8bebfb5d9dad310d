"""What is predicted: the kinds of events that show what a shopper wanted, and which events of them count."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np

from retrieval.data.audit import Bools
from retrieval.data.event_kinds import STRENGTH, Meaning, meaning
from retrieval.data.events import Events
from retrieval.data.requests import Positions, cancelled_by
from retrieval.errors import BadConfig, BadData

MinRating: TypeAlias = Literal["auto"] | float | None
# by the best rating of a scale, the worst one that still counts as wanted
SCALES = {1.0: 0.5, 5.0: 3.0, 10.0: 5.0, 100.0: 50.0}
KINDS_LISTED = 10


@dataclass(frozen=True, kw_only=True)
class Targets:
    """The events that are predicted.

    `wanted` bool [n_events] marks them, whether or not they are cancelled; `cancelled_by` int64 [n_events] is the
    position of the return that cancels each, -1 where none does. `why` says how the kinds `names` were chosen.
    `min_rating` is the rating below which an event of these kinds is not wanted, None where none is too low, and `low`
    counts those.
    """

    names: tuple[str, ...]
    why: str
    wanted: Bools
    cancelled_by: Positions
    min_rating: float | None
    low: int

    def alive(self, known: Bools | None = None) -> Bools:
        """Mask of the events wanted that no return cancels, bool [n_events]; of returns only those in the mask `known`
        count."""
        cancelled = self.cancelled_by >= 0
        return self.wanted & ~(cancelled if known is None else cancelled & known[self.cancelled_by])

    def __str__(self) -> str:
        cancelled = int((self.wanted & (self.cancelled_by >= 0)).sum())
        notes = [f"{cancelled:,} of them cancelled by returns"] * bool(cancelled)
        if self.min_rating is not None:
            notes.append(f"{self.low:,} more left out for a rating below {self.min_rating:g}")
        counts = f"{int(self.wanted.sum()):,} of {len(self.wanted):,} events"
        return "; ".join([f"{', '.join(self.names)}, {counts}, {self.why}", *notes])


def targets_of_events(events: Events, asked: Sequence[str] | None = None, min_rating: MinRating = "auto") -> Targets:
    """The events to predict: of the kinds `asked`, else of those that mean the strongest interest by their names.

    Args:
        min_rating: an event with a lower rating is not wanted; `auto` decides by the scale of the ratings, None takes
            every event.

    Raises:
        BadConfig: an unknown kind; kinds that are returns; or several kinds of which no name is known.
        BadData: all events are returns.
    """
    names, why = _names(events, asked)
    taken = events.is_kind(names) & ~events.is_return()
    if not taken.any():
        raise BadConfig(f"target_events is {', '.join(names)}, which are returns; name a kind of event to predict")
    least = usual_min_rating(events) if min_rating == "auto" else min_rating
    low = np.zeros(len(events), bool) if least is None else taken & rated(events) & (events.rating < least)
    if low.sum() == taken.sum():
        raise BadConfig(
            f"data.min_rating is {least:g}, and every event to predict has a lower rating; lower it, or set it to null"
        )
    wanted = taken & ~low
    return Targets(
        names=names,
        why=why,
        wanted=wanted,
        cancelled_by=cancelled_by(events, taken),
        min_rating=least,
        low=int(low.sum()),
    )


def usual_min_rating(events: Events) -> float | None:
    """The lowest rating that counts as wanted on the scale that the ratings seem to have: 3 of 5, 5 of 10; None without
    ratings, or with one above 100."""
    best = float(events.rating[rated(events)].max(initial=0.0))
    return next((least for top, least in SCALES.items() if 0 < best <= top), None)


def kinds_unknown(events: Events) -> dict[str, int]:
    """The kinds of events that are not known by their name, and how many events each has, the most frequent first."""
    return {name: n for name, n in kind_counts(events).items() if meaning(name) is Meaning.OTHER}


def kind_counts(events: Events) -> dict[str, int]:
    """How many events each kind has, the most frequent first."""
    counts = np.bincount(events.kind, minlength=len(events.kinds)).tolist()
    return dict(sorted(zip(events.kinds, counts, strict=True), key=lambda pair: (-pair[1], pair[0])))


def rated(events: Events) -> Bools:
    """Mask of the events with a rating, bool [n]. Where ratings go beyond 1, many shops write 0 for none."""
    lowest = 0.0 if float(np.fmax.reduce(events.rating, initial=0.0)) > 1 else -1.0
    return np.asarray(events.rating > lowest)


def _names(events: Events, asked: Sequence[str] | None) -> tuple[tuple[str, ...], str]:
    """The kinds to predict, and why."""
    if asked is not None:
        unknown = sorted(set(asked) - set(events.kinds))
        if unknown or not asked:
            raise BadConfig(f"target_events names {unknown or 'nothing'}; the events are: {', '.join(events.kinds)}")
        return tuple(sorted(set(asked))), "as data.target_events says"
    counts = {name: n for name, n in kind_counts(events).items() if n and meaning(name) is not Meaning.RETURN}
    if not counts:
        raise BadData("all events are returns; there is nothing to predict")
    for strength in STRENGTH:
        found = tuple(sorted(name for name in counts if meaning(name) is strength))
        if found:
            stronger = "" if strength is Meaning.PURCHASE else ", and none of a stronger interest"
            return found, f"because the name tells of a {strength.name.lower()}{stronger}"
    if len(counts) > 1:
        raise BadConfig(unclear(counts))
    return tuple(counts), "because there is no other kind"


def unclear(counts: dict[str, int]) -> str:
    """The question for `data.target_events`, where no kind of event is known by its name."""
    listed = ", ".join(f"{name} ({n:,})" for name, n in list(counts.items())[:KINDS_LISTED])
    more = f" and {len(counts) - KINDS_LISTED:,} more" if len(counts) > KINDS_LISTED else ""
    example = json.dumps([next(iter(counts))], ensure_ascii=False)
    return (
        f"which events to predict is not clear: no kind is known by its name among {listed}{more}; name those that "
        f"show what a shopper wanted, such as --set data.target_events='{example}'"
    )
