"""What shoppers thought of the item: ratings of training events."""

from __future__ import annotations

import numpy as np

from ranking.features.facts import ShopFacts
from ranking.features.registry import Feature, FeatureGroup, Values, register_group
from ranking.features.shortlists import Shortlists


def _compute(shortlists: Shortlists, facts: ShopFacts) -> Values:
    rating, counts = np.append(facts.figures.rating, np.nan), np.append(facts.figures.ratings, 0)
    rows = np.clip(shortlists.rows, -1, len(rating) - 1)
    return {"rating": rating[rows], "ratings": np.log1p(counts[rows])}


register_group(
    FeatureGroup(
        name="ratings",
        reads="ratings of training events",
        features=(
            Feature("rating", "stars", "mean rating, drawn towards the shop's mean", "a new item"),
            Feature("ratings", "log of 1 + a count", "how many ratings"),
        ),
        alone=True,
        compute=_compute,
        available=lambda facts: bool(facts.figures.ratings.any()),
    )
)
