"""How often an item was taken: of all times, and in the days before the request."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ranking.features.facts import ShopFacts
from ranking.features.registry import Feature, FeatureGroup, Values, register_group
from ranking.features.shortlists import Shortlists
from retrieval.data.time_units import DAY

WINDOWS = (1, 3, 7, 14, 30, 90)  # days
SPANS = DAY * np.array((0, *WINDOWS), np.int64)
SHORT, LONG = 7, 30  # days of the trend
PRIOR_TAKINGS, PRIOR_LOOKS = 1.0, 10.0  # added to every item's own


def _all_time(shortlists: Shortlists, facts: ShopFacts) -> Values:
    takings = np.append(facts.figures.takings, 0.0)
    rows = np.minimum(np.where(shortlists.rows >= 0, shortlists.rows, len(takings) - 1), len(takings) - 1)
    return {"takings": np.log1p(takings[rows])}


def _recent(shortlists: Shortlists, facts: ShopFacts) -> Values:
    rows, now = np.maximum(shortlists.rows, 0), _as_of(shortlists, facts)
    until, *earlier = facts.taken.before(rows, now - SPANS[:, None, None])
    counts = {days: until - before for days, before in zip(WINDOWS, earlier, strict=True)}
    found = {f"takings_{days}d": np.log1p(count) for days, count in counts.items()}
    found["takings_until_now"] = np.log1p(until)
    found["trend"] = np.log((counts[SHORT] / SHORT + 0.1) / (counts[LONG] / LONG + 0.1))
    first = facts.taken.earliest(rows)
    found["age"] = np.where(first < now, np.log1p(np.maximum(now - first, 0) / DAY), np.nan)
    return found


def _conversion(shortlists: Shortlists, facts: ShopFacts) -> Values:
    rows, now = np.maximum(shortlists.rows, 0), _as_of(shortlists, facts)
    window = now - np.array((0, LONG * DAY))[:, None, None]
    (taken, taken_before), (looked, looked_before) = (when.before(rows, window) for when in (facts.taken, facts.looked))
    taken, looked = taken - taken_before, looked - looked_before
    return {
        f"looks_{LONG}d": np.log1p(looked),
        "conversion": np.log((taken + PRIOR_TAKINGS) / (looked + PRIOR_LOOKS)),
    }


def _as_of(shortlists: Shortlists, facts: ShopFacts) -> NDArray[np.int64]:
    """When each request is made, int64 [n, 1], or up to when events are known, where that is earlier: a window that
    ends in the unknown would call everything unpopular."""
    now = shortlists.now[:, None]
    return now if facts.today is None else np.minimum(now, facts.today)


register_group(
    FeatureGroup(
        name="popularity",
        reads="training events",
        features=(Feature("takings", "log of 1 + a count", "how often the item was taken in training"),),
        available=lambda facts: bool(facts.figures.takings.any()),
        alone=True,
        compute=_all_time,
        searches=None,
    )
)
register_group(
    FeatureGroup(
        name="recent_popularity",
        version=2,
        reads="events of all shoppers strictly before the request's time",
        features=(
            *(
                Feature(f"takings_{days}d", "log of 1 + a count", f"how often it was taken in the {days} days before")
                for days in WINDOWS
            ),
            Feature("takings_until_now", "log of 1 + a count", "how often it was ever taken before"),
            Feature("trend", "log of a ratio", f"takings a day of the last {SHORT} days against the last {LONG}"),
            Feature("age", "log of 1 + days", "since the item was taken first", "it was never taken before"),
        ),
        available=lambda facts: facts.dated and len(facts.taken) > 0,
        alone=True,
        compute=_recent,
        searches=False,
    )
)
register_group(
    FeatureGroup(
        name="conversion",
        version=2,
        reads="events of all shoppers strictly before the request's time",
        features=(
            Feature(f"looks_{LONG}d", "log of 1 + a count", f"how often it was looked at in the {LONG} days before"),
            Feature("conversion", "log of a share", f"takings a look in the {LONG} days before"),
        ),
        available=lambda facts: facts.dated and facts.has_looks,
        alone=True,
        compute=_conversion,
        searches=False,
    )
)
