"""The request itself: the length of what is known, the basket so far, the hour. The same for all candidates."""

from __future__ import annotations

import numpy as np

from ranking.features.facts import Does, ShopFacts
from ranking.features.groups.own_events import visit_of
from ranking.features.registry import Feature, FeatureGroup, Values, register_group
from ranking.features.shortlists import Shortlists
from retrieval.data.time_units import DAY, HOUR

MONDAY = 4 * DAY  # 1970-01-05, in microseconds


def _compute(shortlists: Shortlists, facts: ShopFacts) -> Values:
    events, now = shortlists.events, shortlists.now
    owners, does, n = events.items.owners, facts.does[events.kinds], len(shortlists)
    visit = visit_of(events, now)
    carted = visit & np.isin(does, (Does.CART, Does.TAKE))
    times = np.full(n, np.nan)
    times[owners] = events.times  # the newest event of each is written last
    columns = {
        "history_length": np.log1p(np.bincount(owners, minlength=n)),
        "taken_length": np.log1p(np.bincount(owners[does == Does.TAKE], minlength=n)),
        "basket_size": np.log1p(np.bincount(owners[carted], minlength=n) + np.diff(shortlists.carts.indptr)),
        "days_since_event": np.log1p(np.maximum(now - times, 0) / DAY),
    }
    return {name: column[:, None] for name, column in columns.items()}


def _clock(shortlists: Shortlists, facts: ShopFacts) -> Values:
    now = shortlists.now
    return {
        "hour": ((now % DAY) / HOUR)[:, None],
        "weekday": ((now - MONDAY) // DAY % 7).astype(np.float64)[:, None],
    }


register_group(
    FeatureGroup(
        name="requests",
        version=2,
        reads="the shopper's events before the request",
        features=(
            Feature("history_length", "log of 1 + a count", "events of the shopper"),
            Feature("taken_length", "log of 1 + a count", "takings of the shopper"),
            Feature("basket_size", "log of 1 + a count", "items put into the cart or taken in this visit"),
            Feature("days_since_event", "log of 1 + days", "since the shopper's newest event", "there is none"),
        ),
        alone=True,
        compute=_compute,
        available=lambda facts: len(facts.timeline.item) > 0,
        searches=False,
    )
)
register_group(
    FeatureGroup(
        name="clock",
        reads="the time of the request, UTC",
        features=(
            Feature("hour", "hours", "of the day, from 0"),
            Feature("weekday", "days", "from Monday, 0"),
        ),
        alone=True,
        compute=_clock,
        available=lambda facts: facts.dated,
        searches=False,
    )
)
