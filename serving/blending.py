"""The blend of a ranker with its retriever, fitted on ranker_valid: for recommendation and for search apart."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from ranking.blend import Blend, fit_blend
from ranking.pairs import GradeScale, members
from retrieval.sources import Asked
from serving.evaluate import needs_rerank
from serving.offline import Logits, Offline
from serving.retriever import TaskName
from serving.shop import Shop
from serving.stages import Stages

LISTS = 300  # shortlists that hold a target: two weights need no more
PAIRS = 9_000  # judged pairs, of as many queries as hold them


def fit_blends(stages: Stages, shop: Shop, *, remove_seen: bool) -> Iterator[tuple[TaskName, Blend]]:
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
    hits, targets = offline.told(requests, remove_seen=remove_seen)
    heads, texts = hits.head(stages.depth), offline.user_texts(requests)
    told = np.flatnonzero(needs_rerank(heads, targets) & np.array([bool(text) for text in texts], bool))
    told = np.sort(np.random.default_rng(0).permutation(told)[:LISTS])
    heads = heads.select(told)
    logits = Logits(stages).of(told, [texts[i] for i in told.tolist()], heads, "blend: recommendation")
    kept = np.isfinite(logits)
    labels = members(heads.rows, targets.select(told))[kept].astype(np.float32)
    return fit_blend(logits[kept], heads.scores[kept], labels, np.concatenate(([0], np.cumsum(kept.sum(axis=1)))))


def _of_search(stages: Stages, shop: Shop) -> Blend:
    assert shop.judgements is not None
    assert shop.data.judgements is not None
    queries = np.random.default_rng(0).permutation(shop.judgements.folds["ranker_valid"])
    sizes = np.diff(shop.judged(queries)[0].indptr)
    queries = queries[np.cumsum(sizes) <= PAIRS]
    judged, grades = shop.judged(queries)
    texts = shop.query_texts(queries)
    labels = GradeScale.of(shop.data.judgements.grade).label(grades)
    retrieval = stages.retriever.pair_scores(stages.user.queries(texts), Asked.of_texts(texts), judged, "search")
    return fit_blend(stages.pair_logits(texts, judged), retrieval, labels, judged.indptr)
