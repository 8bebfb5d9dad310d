"""The fusion of candidate sources, fitted on what no tower learned from: for recommendation and for search apart."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from retrieval.data.requests import Requests
from retrieval.metrics.ranking import ndcg_at
from retrieval.sources.fusion import TOWERS, Fusion, fit_fusion
from retrieval.sources.protocols import RequestBatch, best_of_lists
from retrieval.text.words import words
from retrieval.topk import CSR, Vectors
from serving.answering.retriever import FusionName
from serving.answering.source_registry import BEFORE, FIT, LATELY, LOOKED, MONTH, NEW, NEXT, OWN, TOGETHER, WEEK, WORDS
from serving.answering.stages import SHORTLIST, Stages
from serving.evaluation.batch_requests import Offline
from serving.evaluation.figures import relevant_rows
from serving.shop import Shop

FOLDS = ("ranker_train", "ranker_valid")  # of events: a handful of weights takes nothing from the ranker that follows
REQUESTS = 1_500  # of each fold at most: so few weights need no more
EXPECTED = {TOWERS: 1.0, WORDS: 1.0}  # weights before any outcome is known, for scores of spread 1
TITLE_WORDS = 3  # of an item, that stand for a query where none is known
JUDGED_AT = 20  # the places that must not get worse than by the towers alone


@dataclass(frozen=True)
class Outcomes:
    """Requests with a known outcome, as sources read them."""

    vectors: Vectors
    asked: RequestBatch
    targets: CSR
    exclude: CSR | None


def fit_fusions(stages: Stages, shop: Shop, *, remove_seen: bool) -> Iterator[tuple[FusionName, Fusion]]:
    """Each task's fusion, by its name. A shop that answers what was taken before has one more for those who ask not to
    have that: what is taken again drowns what tells of new things.

    What sold or went together of late is a source only where the split is temporal: elsewhere times of different
    shoppers may mean nothing. What was taken before is one only where it is answered again; there neither how new an
    item is nor how its price fits tells anything.
    """
    if shop.events is not None:
        temporal = shop.events.kind == "temporal"
        of_late = (WEEK, MONTH, LATELY) if temporal else ()
        of_new = (*((NEW,) if temporal else ()), *((FIT,) if FIT in stages.retriever.sources else ()))
        tells = of_new if remove_seen else (OWN, BEFORE)
        told = _recommendation(stages, shop, remove_seen=remove_seen)
        yield "recommend", fit(stages, told, (TOGETHER, NEXT, LOOKED, *of_late, *tells))
        if not remove_seen:
            told = _recommendation(stages, shop, remove_seen=True)
            yield "recommend_unseen", fit(stages, told, (TOGETHER, NEXT, LOOKED, *of_late, *of_new))
    yield "search", fit(stages, _search(stages, shop), (WORDS,))


def fit(stages: Stages, told: Outcomes, names: tuple[str, ...]) -> Fusion:
    """The weights of the towers and of the named sources, those EXPECTED where no outcome is known; the towers alone
    where they order the first places as well by themselves."""
    found = stages.retriever.candidates(told.vectors, told.asked, SHORTLIST, names, told.exclude)
    lists = found.pairs
    span = stages.version.size
    taken = np.isin(lists.owners * span + lists.rows, told.targets.owners * span + told.targets.rows)
    every = (TOWERS, *names)
    features = np.column_stack([found.scores[name] for name in every])
    fusion = fit_fusion(every, features, taken.astype(np.float32), lists, EXPECTED)
    fused = best_of_lists(lists, fusion(found.scores), SHORTLIST, tie_breaker=found.scores[TOWERS])
    alone = stages.retriever.by_towers(told.vectors, SHORTLIST, told.exclude)
    heard = told.vectors.any(axis=1)  # of the others towers know nothing, and what is popular would answer for them
    better, before = (ndcg_at(hits, told.targets, JUDGED_AT)[heard] for hits in (fused, alone))
    if np.isnan(better).all() or np.nanmean(better) > np.nanmean(before):
        return fusion
    return Fusion.of_towers()


def _recommendation(stages: Stages, shop: Shop, *, remove_seen: bool) -> Outcomes:
    assert shop.events is not None
    assert shop.data.events is not None
    requests = Requests.join([_some(shop.events.folds[name]) for name in FOLDS])
    requests = requests.select(np.argsort(requests.time, kind="stable"))  # sources of late make each day once
    offline = Offline.of(stages, shop.data.events, shop.target_events)
    seen = offline.seen(requests) if remove_seen else None
    return Outcomes(offline.vectors(requests), offline.asked(requests), offline.targets(requests, seen), seen)


def _some(requests: Requests) -> Requests:
    """At most REQUESTS of a fold, drawn evenly."""
    return requests.select(np.sort(np.random.default_rng(0).permutation(len(requests))[:REQUESTS]))


def _search(stages: Stages, shop: Shop) -> Outcomes:
    """Judged queries; without any, those that shoppers asked, and without those a few words of items, whose outcome is
    not known: they tell how far scores spread."""
    if shop.judgements is not None:
        queries = shop.judgements.folds["ranker_valid"][:REQUESTS]
        typed, targets = shop.query_texts(queries), relevant_rows(*shop.judged(queries))
    else:
        typed = list(shop.data.events.query_texts) if shop.data.events is not None else []
        typed = _few(typed or [" ".join(words(text)[:TITLE_WORDS]) for text in shop.data.items["title"].to_pylist()])
        targets = CSR.from_lists([()] * len(typed))
    texts = stages.spelled(typed)
    return Outcomes(stages.user.queries(texts), RequestBatch.of_texts(texts), targets, None)


def _few(texts: list[str]) -> list[str]:
    """At most REQUESTS texts, drawn evenly."""
    return [texts[at] for at in np.sort(np.random.default_rng(0).permutation(len(texts))[:REQUESTS])]
