"""The blend of a ranker with its retriever, fitted on ranker_valid: for recommendation and for search apart."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from ranking.blend import Blend, fit_blend
from ranking.pairs import GradeScale, members
from retrieval.baselines import targets_of
from retrieval.text import item_texts
from serving.evaluate import needs_rerank
from serving.offline import Logits, Offline
from serving.shop import Shop
from serving.stages import Stages

LISTS = 300  # shortlists that hold a target: two weights need no more


def fit_blends(stages: Stages, shop: Shop, *, remove_seen: bool) -> Iterator[tuple[str, Blend]]:
    """Each task's blend, by its name.

    Recommendation is fitted on shortlists of ranker_valid that hold a target, search on pairs judged for its queries.
    """
    if shop.events is not None:
        yield "recommend", _of_recommendation(stages, shop, remove_seen=remove_seen)
    if shop.judgements is not None:
        yield "search", _of_search(stages, shop)


def _of_recommendation(stages: Stages, shop: Shop, *, remove_seen: bool) -> Blend:
    assert shop.events is not None
    assert shop.data.events is not None
    requests = shop.events.folds["ranker_valid"]
    offline = Offline.of(stages, shop.data.events, shop.target_events)
    seen = offline.seen(requests) if remove_seen else None
    targets = targets_of(requests) if seen is None else targets_of(requests).without(seen)
    hits = offline.shortlists(requests, seen).head(stages.depth)
    told = np.flatnonzero(needs_rerank(hits, targets))
    if len(told) > LISTS:
        told = np.sort(np.random.default_rng(0).choice(told, LISTS, replace=False))
    if not len(told):
        return Blend()
    texts, heads = offline.user_texts(requests.select(told)), hits.select(told)
    logits = Logits(stages).of(told, texts, heads, "blend: recommendation")
    kept = np.isfinite(logits)
    labels = members(heads.rows, targets.select(told))
    indptr = np.concatenate(([0], np.cumsum(kept.sum(axis=1))))
    return fit_blend(logits[kept], heads.scores[kept], labels[kept].astype(np.float32), indptr)


def _of_search(stages: Stages, shop: Shop) -> Blend:
    assert shop.judgements is not None
    assert shop.data.judgements is not None
    assert stages.scorer is not None
    queries = shop.judgements.folds["ranker_valid"]
    judged, grades = shop.judged(queries)
    texts, items = shop.query_texts(queries), item_texts(shop.data.items.take(judged.rows))
    logits = stages.scorer.score([(texts[owner], item) for owner, item in zip(judged.owners, items, strict=True)])
    labels = GradeScale.of(shop.data.judgements.grade).label(grades)
    return fit_blend(logits, stages.pair_scores(stages.user.queries(texts), judged), labels, judged.indptr)
