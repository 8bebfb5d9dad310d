"""A feature of candidates: how often others took the item in the hours before the request."""

import numpy as np

from ranking.features.facts import ShopFacts
from ranking.features.registry import Feature, FeatureGroup, Values, register_group
from ranking.features.shortlists import Shortlists
from retrieval.data.time_units import HOUR

HOURS = 3


def rush(shortlists: Shortlists, facts: ShopFacts) -> Values:
    rows = np.maximum(shortlists.rows, 0)  # -1 pads a short list; what a pad is given is thrown away
    now = shortlists.now[:, None]  # when each request is made, in microseconds
    before = facts.taken.before(rows, now) - facts.taken.before(rows, now - HOURS * HOUR)
    return {"rush": np.log1p(before)}


register_group(
    FeatureGroup(
        name="rush",
        reads="events of all shoppers strictly before the request's time",
        features=(Feature("rush", "log of 1 + a count", f"how often it was taken in the {HOURS} hours before"),),
        compute=rush,
        available=lambda facts: facts.dated and len(facts.taken.keys) > 0,
        searches=False,
    )
)
