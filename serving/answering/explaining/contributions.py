"""Why a hit stands where it does: what each feature adds to the score that ordered it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ranking.features.facts import ShopFacts
from ranking.features.registry import feature_groups
from serving.answering.batch import Batch, Order
from serving.request import CROSS_ENCODER
from serving.texts.catalogue import Language, retold, text

if TYPE_CHECKING:
    from serving.answering.release_state import ReleaseState

RETRIEVAL = "retrieval"  # the share of the order before, and of what is the same for all candidates


def contributions(
    state: ReleaseState, batch: Batch, order: Order, line: int, kept: NDArray[np.int64]
) -> list[dict[str, float]]:
    """What each feature adds to the score of the hits at the places `kept` int64 [m] of an answer, by its name.

    A hit's sum to the feature ranker's score, or to the cross-encoder's blended logit where it read the hit. Empty
    where no feature ranker ordered: of all hits, or of one that the query names by its id.
    """
    scored = batch.scored
    if scored is None or scored.features is None or not len(kept):
        return [{} for _ in kept]
    places = order.places[line, kept]
    fused = scored.fused[line, places]
    fused = np.where(np.isfinite(fused), fused, 0).astype(np.float32)
    shares = scored.ranker.contributions(scored.features[line, scored.places[line, places]], fused)
    names, exact = (*scored.ranker.names, RETRIEVAL), batch.candidates.exact[line, places]
    found = [
        {} if named else dict(zip(names, row, strict=True))
        for named, row in zip(exact.tolist(), shares.tolist(), strict=True)
    ]
    for hit, place in zip(found, places.tolist(), strict=True):
        if hit:
            _blend_in(state, batch, hit, line, place)
    return found


def about_contributions(facts: ShopFacts, language: Language = "en") -> Mapping[str, str]:
    """What each feature of a shop is, by its name, and what else contributions hold; in a language, as far as the
    catalogue of texts has it."""
    features = {one.name: retold(one.about, language) for group in feature_groups() for one in group.of(facts)}
    return features | {name: text(f"explained.{name}", language) for name in (RETRIEVAL, CROSS_ENCODER)}


def _blend_in(state: ReleaseState, batch: Batch, hit: dict[str, float], line: int, place: int) -> None:
    """Weighs the contributions of one hit, candidate `place`, as the blend of the step that read it did, beside those
    of single sources and of the cross-encoder."""
    ranking, name = batch.ranking, batch.task.order
    if ranking is None or name is None or not ranking.read(line, np.array([place]))[0]:
        return
    at = ranking.places_of(line, np.array([place]))[0]
    blend, hits = state.steps[ranking.read_by[line, at]].blend(name), batch.candidates.hits
    rest = blend.retrieval * float(hits.scores[line, place]) - blend.retrieval * sum(hit.values())
    for feature in hit:
        hit[feature] *= blend.retrieval
    hit[RETRIEVAL] += rest  # the score was capped by that of a place before
    for source, weight in blend.sources.items():
        if source in hits.parts:
            feature = f"{source}_score"
            hit[feature] = hit.get(feature, 0.0) + weight * float(hits.parts[source][line, place])
    hit[CROSS_ENCODER] = float(ranking.logits[line, at]) - sum(hit.values())
