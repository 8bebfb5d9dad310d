"""The towers' inner product taken apart: a shop can weigh content, identity, item-to-item factors and bias anew."""

from __future__ import annotations

import numpy as np

from ranking.features.facts import ShopFacts
from ranking.features.registry import Feature, FeatureGroup, Values, register_group
from ranking.features.shortlists import Shortlists

ABOUT = {
    "content": "product of the content parts: what the item is",
    "identity": "product of the identity parts: who takes the item",
    "linear": "product of the item-to-item factors",
    "bias": "the item's learned popularity",
}


def _compute(shortlists: Shortlists, facts: ShopFacts) -> Values:
    items = facts.vectors_at(np.maximum(shortlists.rows, 0).ravel())
    items = items.reshape(*shortlists.rows.shape, -1)
    return {
        f"tower_{name}": np.einsum("nd,nkd->nk", shortlists.vectors[:, part], items[:, :, part])
        for name, part in facts.tower_parts.items()
    }


register_group(
    FeatureGroup(
        name="towers",
        reads="the vectors of the request and of each candidate",
        features=tuple(Feature(f"tower_{name}", "inner product", about) for name, about in ABOUT.items()),
        listed=lambda facts: tuple(
            Feature(f"tower_{name}", "inner product", ABOUT[name]) for name in ABOUT if name in facts.tower_parts
        ),
        available=lambda facts: len(facts.tower_parts) > 1,
        alone=True,
        compute=_compute,
    )
)
