"""The item's price against what the shopper pays, the last item's, and the list's."""

from __future__ import annotations

import numpy as np

from ranking.features.facts import Does, ShopFacts
from ranking.features.grouped import Numbers
from ranking.features.registry import Feature, FeatureGroup, Values, register_group
from ranking.features.shortlists import Shortlists

UNKNOWN = "a price is unknown"


def _compute(shortlists: Shortlists, facts: ShopFacts) -> Values:
    prices = facts.log_price
    own = np.where(shortlists.rows >= 0, prices[shortlists.rows], np.nan)
    events = shortlists.events
    of_events = prices[np.minimum(events.items.rows, len(prices) - 1)]
    usable = np.isfinite(of_events)
    taken = usable & (facts.does[events.kinds] == Does.TAKE)
    owners, n = events.items.owners, len(shortlists)
    usual = medians(owners[taken], of_events[taken], n)
    last = np.full(n, np.nan)
    last[owners[usable]] = of_events[usable]  # the newest event of each is written last
    lines, places = np.nonzero(np.isfinite(own))
    of_list = medians(lines, own[lines, places], n)
    return {
        "price_to_usual": own - usual[:, None],
        "price_off_usual": np.abs(own - usual[:, None]),
        "price_to_last": own - last[:, None],
        "price_off_last": np.abs(own - last[:, None]),
        "price_to_list": own - of_list[:, None],
    }


def medians(owners: np.ndarray, values: Numbers, n: int) -> Numbers:
    """The median of each owner's values, float64 [n]; nan for none.

    >>> medians(np.array([0, 0, 0, 2]), np.array([5.0, 1.0, 3.0, 4.0]), 3).tolist()
    [3.0, nan, 4.0]
    """
    order = np.lexsort((values, owners))
    values, sizes = values[order], np.bincount(owners, minlength=n)
    starts = np.cumsum(sizes) - sizes
    found = np.full(n, np.nan)
    there = sizes > 0
    low, high = starts + np.maximum(sizes - 1, 0) // 2, starts + sizes // 2
    found[there] = (values[low[there]] + values[high[there]]) / 2
    return found


register_group(
    FeatureGroup(
        name="prices",
        version=2,
        reads="the items' prices, and the shopper's events before the request",
        features=(
            Feature("price_to_usual", "log of a ratio", "to the median price of what the shopper took", UNKNOWN),
            Feature("price_off_usual", "log of a ratio", "how far that is from 1, either way", UNKNOWN),
            Feature("price_to_last", "log of a ratio", "to the price of the shopper's last item", UNKNOWN),
            Feature("price_off_last", "log of a ratio", "how far that is from 1, either way", UNKNOWN),
            Feature("price_to_list", "log of a ratio", "to the median price of the list", UNKNOWN),
        ),
        compute=_compute,
        available=lambda facts: bool(np.isfinite(facts.log_price).any()),
    )
)
