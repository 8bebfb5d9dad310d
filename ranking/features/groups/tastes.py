"""How much of what the shopper did was of the item's categories and brand, and how lately."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ranking.features.facts import ShopFacts
from ranking.features.grouped import Grouped, Numbers, at_groups
from ranking.features.registry import Feature, FeatureGroup, Values, register_group
from ranking.features.shortlists import Shortlists

RECENT = 10  # newest events of the recent share
NO_EVENT = "the shopper has no event, or the item has none"
NEVER = "the shopper has no event with it, or the item has none"


def _categories(shortlists: Shortlists, facts: ShopFacts) -> Values:
    codes, span = facts.categories
    of_candidates = np.where(shortlists.rows[:, :, None] >= 0, codes[shortlists.rows], -1)
    share, recent, places = _shares(shortlists, codes, span, of_candidates)
    known = of_candidates >= 0
    with_any = known.any(axis=2)
    mean = np.where(known, share, 0).sum(axis=2) / np.maximum(known.sum(axis=2), 1)
    return {
        "leaf_share": share[:, :, -1],
        "parent_share": share[:, :, 0],
        "category_mean_share": np.where(with_any, mean, np.nan),
        "leaf_recent_share": recent[:, :, -1],
        "leaf_events_ago": np.log1p(places[:, :, -1]),
        "parent_events_ago": np.log1p(places[:, :, 0]),
    }


def _brands(shortlists: Shortlists, facts: ShopFacts) -> Values:
    codes, span = facts.brands
    of_candidates = np.where(shortlists.rows >= 0, codes[shortlists.rows], -1)[:, :, None]
    share, recent, places = _shares(shortlists, codes[:, None], span, of_candidates)
    return {
        "brand_share": share[:, :, 0],
        "brand_recent_share": recent[:, :, 0],
        "brand_events_ago": np.log1p(places[:, :, 0]),
    }


def _shares(
    shortlists: Shortlists, codes: NDArray[np.int64], span: int, wanted: NDArray[np.int64]
) -> tuple[Numbers, Numbers, Numbers]:
    """For codes [n, k, c] of candidates: the share of the shopper's events with the code, that of the newest RECENT,
    and how many events ago the newest with it was, float64 [n, k, c] each; nan where there is no code or event."""
    items = shortlists.events.items
    of_events = codes[np.minimum(items.rows, len(codes) - 1)]  # [m, c]
    lines, columns = np.nonzero(of_events >= 0)
    distinct = np.ones(len(lines), bool)
    if of_events.shape[1] > 1:  # a single category stands in front and at the end
        same = (of_events[:, 0] == of_events[:, -1])[lines] & (columns == of_events.shape[1] - 1)
        distinct = ~same
    lines, columns = lines[distinct], columns[distinct]
    sizes = np.diff(items.indptr)
    owners, from_end = items.owners, items.indptr[1:][items.owners] - 1 - np.arange(len(items.rows))
    by_code = Grouped.of(owners[lines], of_events[lines, columns], span)
    groups = by_code.find(wanted)
    n = np.maximum(sizes, 1)[:, None, None]
    counted, lately = by_code.sums(np.ones(len(lines))), by_code.sums(from_end[lines] < RECENT)
    unknown = np.where((wanted >= 0) & (sizes[:, None, None] > 0), 0.0, np.nan)
    share = at_groups(counted, groups, 0.0) / n + unknown
    recent = at_groups(lately, groups, 0.0) / np.minimum(n, RECENT) + unknown
    return share, recent, at_groups(-by_code.largest(-from_end[lines]), groups, np.nan)


register_group(
    FeatureGroup(
        name="categories",
        reads="the shopper's events before the request, and the items' categories",
        features=(
            Feature("leaf_share", "share", "of the shopper's events in the item's leaf category", NO_EVENT),
            Feature("parent_share", "share", "of the shopper's events in its first category", NO_EVENT),
            Feature("category_mean_share", "share", "mean over all categories of the item", NO_EVENT),
            Feature("leaf_recent_share", "share", f"of the newest {RECENT} events in the leaf category", NO_EVENT),
            Feature("leaf_events_ago", "log of 1 + events", "since the newest event in the leaf category", NEVER),
            Feature("parent_events_ago", "log of 1 + events", "since the newest event in the first category", NEVER),
        ),
        alone=True,
        compute=_categories,
        available=lambda facts: facts.categories[1] > 0 and len(facts.timeline.item) > 0,
        searches=False,
    )
)
register_group(
    FeatureGroup(
        name="brands",
        reads="the shopper's events before the request, and the items' brands",
        features=(
            Feature("brand_share", "share", "of the shopper's events with the item's brand", NO_EVENT),
            Feature("brand_recent_share", "share", f"of the newest {RECENT} events with the brand", NO_EVENT),
            Feature("brand_events_ago", "log of 1 + events", "since the newest event with the brand", NEVER),
        ),
        alone=True,
        compute=_brands,
        available=lambda facts: facts.brands[1] > 0 and len(facts.timeline.item) > 0,
        searches=False,
    )
)
