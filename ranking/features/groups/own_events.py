"""What the shopper did with the very item: by kind of event, when, in this visit, and whether it is due again."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ranking.features.facts import Does, ShopFacts
from ranking.features.grouped import Grouped, Numbers, at_groups
from ranking.features.registry import Feature, FeatureGroup, Values, register_group
from ranking.features.shortlists import ShopperEvents, Shortlists
from retrieval.data.time_units import DAY, HOUR

COUNTED = {"taken": Does.TAKE, "carted": Does.CART, "liked": Does.LIKE, "looked": Does.LOOK, "returned": Does.RETURN}
DID = {
    "taken": "took the item",
    "carted": "put the item in the cart",
    "liked": "marked the item as a favourite",
    "looked": "looked at the item",
    "returned": "gave the item back",
}
NEVER = "the shopper never did"


def visit_of(events: ShopperEvents, now: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Which events are of the visit that goes on at `now` int64 [n]: since the last hour without any, bool [m]."""
    owners, times = events.items.owners, events.times
    if not len(owners):
        return np.empty(0, bool)
    last = np.append(owners[1:] != owners[:-1], True)
    after = np.where(last, now[owners], np.append(times[1:], 0))
    breaks = np.where(after - times > HOUR, np.arange(len(owners)), -1)
    latest = np.full(events.items.n_lists, -1)
    np.maximum.at(latest, owners, breaks)
    return np.arange(len(owners)) > latest[owners]


def _compute(shortlists: Shortlists, facts: ShopFacts) -> Values:
    events, now = shortlists.events, shortlists.now
    owners, does, days = events.items.owners, facts.does[events.kinds], _days_before(events, now)
    by_item = Grouped.of(owners, events.items.rows, facts.n_items)
    groups, visit = by_item.find(shortlists.rows), visit_of(events, now)
    found = {
        f"own_{name}": at_groups(np.log1p(by_item.sums(does == kind)), groups, 0.0) for name, kind in COUNTED.items()
    }
    found["own_days"] = at_groups(np.log1p(-by_item.largest(-days)), groups, np.nan)
    found["own_visit"] = at_groups(np.log1p(by_item.sums(visit)), groups, 0.0)
    found["in_cart"] = np.maximum(
        at_groups(_in_cart(by_item, does, visit), groups, 0.0), shortlists_in_carts(shortlists, facts.n_items)
    )
    found["left_in_cart"] = at_groups(_in_cart(by_item, does, ~visit), groups, 0.0)
    return {**found, **_last_does(by_item, does, groups)}


def _in_cart(by_item: Grouped, does: NDArray[np.int64], counted: NDArray[np.bool_]) -> Numbers:
    """Whether each item was put into the cart, by a counted event, after it was last taken or returned, float64 [g]."""
    at = np.arange(len(does))
    carted = by_item.largest(np.where((does == Does.CART) & counted, at, -1))
    ended = by_item.largest(np.where(np.isin(does, (Does.TAKE, Does.RETURN)), at, -1))
    return (carted > ended).astype(np.float64)


def shortlists_in_carts(shortlists: Shortlists, n_items: int) -> Numbers:
    """Whether each candidate is in the cart that came with the request, float64 [n, k]."""
    carts = shortlists.carts
    if not len(carts.rows):
        return np.zeros(shortlists.rows.shape)
    listed = Grouped.of(carts.owners, carts.rows, n_items)
    return (listed.find(shortlists.rows) >= 0).astype(np.float64)


def _last_does(by_item: Grouped, does: NDArray[np.int64], groups: NDArray[np.int64]) -> Values:
    """Whether the newest event on the item was a look."""
    if not len(does):
        return {"last_was_look": np.zeros(groups.shape)}
    ends = np.append(by_item.starts[1:], len(does)) - 1
    newest = does[by_item.order[ends]]
    return {"last_was_look": at_groups((newest == Does.LOOK).astype(np.float64), groups, 0.0)}


def _due(shortlists: Shortlists, facts: ShopFacts) -> Values:
    events, now = shortlists.events, shortlists.now
    taken = np.flatnonzero(facts.does[events.kinds] == Does.TAKE)
    by_item = Grouped.of(events.items.owners[taken], events.items.rows[taken], facts.n_items)
    groups, days = by_item.find(shortlists.rows), _days_before(events, now)[taken]
    since, first = -by_item.largest(-days), by_item.largest(days)
    distinct = _distinct_times(by_item, events.times[taken])
    own_gap = np.where(distinct > 1, (first - since) / np.maximum(distinct - 1, 1), np.nan)
    gaps = np.append(facts.figures.gap, np.nan).astype(np.float64)
    of_item = gaps[np.clip(shortlists.rows, -1, len(gaps) - 1)]
    since_then, gap = at_groups(since, groups, np.nan), at_groups(own_gap, groups, np.nan)
    expected = np.where(np.isfinite(gap), gap, of_item)
    over = np.log((since_then + 1) / (expected + 1))
    return {
        "taken_before": (groups >= 0).astype(np.float64),
        "times_taken": at_groups(np.log1p(distinct), groups, 0.0),
        "days_since_taken": np.log1p(since_then),
        "item_gap": np.log1p(of_item),
        "own_gap": np.log1p(gap),
        "overdue": over,
        "off_rhythm": np.abs(over),
    }


def _distinct_times(by_item: Grouped, times: NDArray[np.int64]) -> Numbers:
    """The number of different times of each group, float64 [g]."""
    if not len(by_item.starts):
        return np.empty(0)
    ordered = times[by_item.order]
    new = np.append(True, ordered[1:] != ordered[:-1])
    new[by_item.starts] = True
    found: Numbers = np.add.reduceat(new.astype(np.float64), by_item.starts)
    return found


def _days_before(events: ShopperEvents, now: NDArray[np.int64]) -> Numbers:
    """Days from each event to its request, float64 [m], at least 0."""
    days: Numbers = np.maximum(now[events.items.owners] - events.times, 0) / DAY
    return days


register_group(
    FeatureGroup(
        name="own_events",
        version=2,
        reads="the shopper's events before the request",
        features=(
            *(
                Feature(f"own_{name}", "log of 1 + a count", f"how often the shopper {did}")
                for name, did in DID.items()
            ),
            Feature("own_days", "log of 1 + days", "since the shopper's last event on the item", NEVER),
            Feature("own_visit", "log of 1 + a count", "events on the item in this visit"),
            Feature(
                "in_cart", "0 or 1", "put into the cart in this visit, or in the cart at hand, and not taken since"
            ),
            Feature("left_in_cart", "0 or 1", "put into the cart in an earlier visit and not taken since"),
            Feature("last_was_look", "0 or 1", "whether the shopper's newest event on the item was a look"),
        ),
        alone=True,
        compute=_compute,
        available=lambda facts: len(facts.timeline.item) > 0,
        searches=False,
    )
)
register_group(
    FeatureGroup(
        name="due_again",
        version=2,
        reads="the shopper's takings before the request, and typical gaps between takings from training events",
        features=(
            Feature("taken_before", "0 or 1", "whether the shopper took the item before"),
            Feature("times_taken", "log of 1 + a count", "at how many different times"),
            Feature("days_since_taken", "log of 1 + days", "since the shopper took it last", NEVER),
            Feature(
                "item_gap", "log of 1 + days", "typical time until anybody takes the item again", "too few repeats"
            ),
            Feature("own_gap", "log of 1 + days", "the shopper's own mean time between takings", "not taken twice"),
            Feature("overdue", "log of a ratio", "days since the last taking against the gap, own or typical", NEVER),
            Feature("off_rhythm", "log of a ratio", "how far that is from 1, either way", NEVER),
        ),
        alone=True,
        compute=_due,
        available=lambda facts: len(facts.taken) > 0,
        searches=False,
    )
)
