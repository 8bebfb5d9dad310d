"""The blends of a ranker with its retriever, fitted on ranker_valid: for each step, each order, and for grades."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import numpy as np

from ranking.blend import Blend, fit_blend
from ranking.pairs import GradeScale, members
from retrieval.topk import CSR, Hits
from serving.evaluate import needs_rerank, relevant_rows
from serving.offline import Logits, Offline, query_shortlists
from serving.retriever import TaskName
from serving.shop import Shop
from serving.stages import BlendName, Stages, Step

LISTS = 300  # shortlists that hold a target: two weights need no more
PAIRS = 9_000  # judged pairs, of as many queries as hold them


def fitted_steps(stages: Stages, shop: Shop, *, remove_seen: bool, say: Callable[[str], None]) -> tuple[Step, ...]:
    """The steps with their blends, each fitted on the order that the fitted steps before it give."""
    fitted: tuple[Step, ...] = ()
    for step in stages.steps:
        ordered = replace(stages, steps=fitted)
        blends: dict[str, Blend] = {}
        for name, blend in fit_blends(ordered, step, shop, remove_seen=remove_seen, graded=step is stages.steps[-1]):
            say(f"blend, {step.model} model, {name}: {blend}")
            blends[name] = blend
        fitted = (*fitted, replace(step, blends=blends))
    return fitted


def fit_blends(
    stages: Stages, step: Step, shop: Shop, *, remove_seen: bool, graded: bool = True
) -> Iterator[tuple[BlendName, Blend]]:
    """Each blend of a step that follows those of `stages`, by its name.

    Those of recommendation and of search order a shortlist: they are fitted on shortlists of ranker_valid that hold a
    target. That of grades predicts how good one item is for one query: it is fitted on the pairs judged for those
    queries, beside the towers' inner product alone, for words tell little among items that all of them share.
    """
    if shop.events is not None:
        yield "recommend", _of_recommendation(stages, step, shop, remove_seen=remove_seen)
    if shop.judgements is not None:
        yield "search", _of_search(stages, step, shop)
        if graded:
            yield "grade", _of_grades(replace(stages, steps=(*stages.steps, step)), shop)


def _of_recommendation(stages: Stages, step: Step, shop: Shop, *, remove_seen: bool) -> Blend:
    assert shop.events is not None
    assert shop.data.events is not None
    requests = shop.events.folds["ranker_valid"]
    offline = Offline.of(stages, shop.data.events, shop.target_events)
    hits, targets = offline.told(requests, remove_seen=remove_seen)
    return _of_shortlists(stages, step, "recommend", hits, targets, offline.user_texts(requests))


def _of_search(stages: Stages, step: Step, shop: Shop) -> Blend:
    assert shop.judgements is not None
    queries = shop.judgements.folds["ranker_valid"]
    texts, targets = shop.query_texts(queries), relevant_rows(*shop.judged(queries))
    hits = query_shortlists(stages, texts, stages.user.queries(texts))
    return _of_shortlists(stages, step, "search", hits, targets, texts)


def _of_shortlists(stages: Stages, step: Step, task: TaskName, hits: Hits, targets: CSR, texts: Sequence[str]) -> Blend:
    first = stages.depth or step.depth
    told = np.flatnonzero(needs_rerank(hits.head(first), targets) & np.array([bool(text) for text in texts], bool))
    told = np.sort(np.random.default_rng(0).permutation(told)[:LISTS])
    asked, logits, what = [texts[i] for i in told.tolist()], Logits(stages), f"blend: {task}"
    given = hits.select(told).head(first)
    found = stages.rerank(asked, given, task, logits_of=logits.told(told, asked, what))
    heads = found.hits.head(step.depth)
    scores = np.take_along_axis(given.scores, found.places, axis=1)[:, : heads.rows.shape[1]]
    of_step = logits.of(step, told, asked, heads, what)
    kept = np.isfinite(of_step)
    labels = members(heads.rows, targets.select(told))[kept].astype(np.float32)
    return fit_blend(of_step[kept], scores[kept], labels, np.concatenate(([0], np.cumsum(kept.sum(axis=1)))))


def _of_grades(stages: Stages, shop: Shop) -> Blend:
    assert shop.judgements is not None
    assert shop.data.judgements is not None
    queries = np.random.default_rng(0).permutation(shop.judgements.folds["ranker_valid"])
    sizes = np.diff(shop.judged(queries)[0].indptr)
    queries = queries[np.cumsum(sizes) <= PAIRS]
    judged, grades = shop.judged(queries)
    texts = shop.query_texts(queries)
    labels = GradeScale.of(shop.data.judgements.grade).label(grades)
    retrieval = stages.retriever.tower_scores(stages.user.queries(texts), judged)
    return fit_blend(stages.pair_logits(texts, judged), retrieval, labels, judged.indptr)
