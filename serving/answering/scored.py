"""What a feature ranker made of shortlists."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ranking.feature_ranker.protocol import FeatureRanker
from retrieval.topk import Hits, Scores


@dataclass(frozen=True)
class Scored:
    """What the feature ranker made of n shortlists, in the new order.

    `places` int64 [n, k] are the places before, from 0, `fused` float32 [n, k] the scores before. `features` float32
    [n, k, n_features] are what the ranker read, still in the order before; None where many requests are evaluated, for
    whom they would be too large.
    """

    ranker: FeatureRanker
    places: NDArray[np.int64]
    fused: Scores
    features: NDArray[np.float32] | None = None

    def select(self, part: NDArray[np.int64]) -> Scored:
        """That of some requests, by position."""
        features = None if self.features is None else self.features[part]
        return Scored(self.ranker, self.places[part], self.fused[part], features)

    def before(self, hits: Hits) -> Hits:
        """The hits, which are in the new order, as they were before."""
        back = np.argsort(self.places, axis=1)
        parts = {name: np.take_along_axis(part, back, axis=1) for name, part in hits.parts.items()}
        return Hits(np.take_along_axis(hits.rows, back, axis=1), np.take_along_axis(self.fused, back, axis=1), parts)

    @classmethod
    def join(cls, parts: Sequence[Scored | None]) -> Scored | None:
        """Those of several parts, one after the other, without their features; None where nothing was scored."""
        known = [part for part in parts if part is not None]
        if not known:
            return None
        return cls(
            known[0].ranker, np.concatenate([one.places for one in known]), np.concatenate([one.fused for one in known])
        )
