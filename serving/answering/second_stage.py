"""The second stage of a release: for each order a ranker that reads features, as a part of the bundle."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ranking.feature_ranker.protocol import FeatureRanker
from ranking.feature_ranker.registry import load
from ranking.features.facts import ShopFacts
from ranking.features.registry import FeatureReader
from retrieval.encoders.text_encoder import read_json
from retrieval.errors import CorruptBundle, MissingDependency, StaleArtefact
from serving.answering.release_settings import OrderName, weights_for_task

ABOUT = "about.json"


@dataclass(frozen=True)
class SecondStage:
    """Rankers by the name of an order; of those that need a package that is not installed, what to install."""

    rankers: Mapping[OrderName, FeatureRanker] = field(default_factory=dict)
    missing: Mapping[OrderName, MissingDependency] = field(default_factory=dict)

    def ranker(self, order: OrderName) -> FeatureRanker | None:
        """That of an order; for new things that of any recommendation, where they have none of their own."""
        found = self._of(order)
        return None if isinstance(found, MissingDependency) else found

    def lacks(self, order: OrderName) -> MissingDependency | None:
        """Why the ranker of an order cannot be asked here; None where it can, and where there is none."""
        found = self._of(order)
        return found if isinstance(found, MissingDependency) else None

    def only(self, orders: Collection[str]) -> SecondStage:
        """That of some orders."""
        return SecondStage({order: ranker for order, ranker in self.rankers.items() if order in orders})

    def _of(self, order: OrderName) -> FeatureRanker | MissingDependency | None:
        known: dict[str, FeatureRanker | MissingDependency | None] = {one: why for one, why in self.missing.items()}
        known |= {one: ranker for one, ranker in self.rankers.items()}
        return weights_for_task(known, order, None)

    def write(self, folder: Path, facts: ShopFacts) -> None:
        """Writes the rankers, and the fingerprint of the features that each reads of a shop."""
        prints = {}
        for order, ranker in self.rankers.items():
            ranker.save(folder, order)
            prints[order] = FeatureReader.of(ranker.names, facts).fingerprint
        (folder / ABOUT).write_text(json.dumps({"features": prints}, indent=1) + "\n", "utf-8")

    @classmethod
    def open(cls, folder: Path, facts: ShopFacts) -> SecondStage:
        """What `write` wrote, without rankers whose package is not installed here. Raises CorruptBundle where the list
        of orders is missing, StaleArtefact, naming the order, where features are computed in another way now, and what
        else `ranking.feature_ranker.registry.load` raises."""
        prints = read_json(folder / ABOUT).get("features")
        if not isinstance(prints, dict):
            raise CorruptBundle(f"{folder / ABOUT} does not name its orders; run: shortlist run BUNDLE --data DATA")
        rankers: dict[OrderName, FeatureRanker] = {}
        missing: dict[OrderName, MissingDependency] = {}
        for order, recorded in prints.items():
            try:
                ranker = load(folder, order)
            except MissingDependency as error:
                missing[order] = error
                continue
            now = FeatureReader.of(ranker.names, facts).fingerprint
            if now != recorded:
                raise StaleArtefact(
                    f"{folder} orders {order} by features of another version ({recorded}, this is {now}); "
                    "run: shortlist run BUNDLE --data DATA"
                )
            rankers[order] = ranker
        return cls(rankers, missing)
