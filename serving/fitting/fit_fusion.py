"""The fusion of candidate sources, fitted on what no tower learned from: for recommendation and for search apart."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from ranking.ordering.gate import gate
from retrieval.data.requests import Requests
from retrieval.metrics.baselines import targets_of
from retrieval.metrics.ranking import ndcg_at
from retrieval.sources.fusion import TOWERS, Fusion, fit_fusion
from retrieval.sources.protocols import best_of_lists
from retrieval.sources.registry import FitCase, sources_for
from retrieval.topk import CSR
from serving.answering.batch import Batch, RequestSource
from serving.answering.pipeline import run
from serving.answering.release_settings import SHORTLIST, OrderName
from serving.answering.release_state import ReleaseState
from serving.answering.stages.permit import permit
from serving.answering.stages.read_user import LiveRequests
from serving.answering.tasks import TASKS
from serving.evaluation.batch_requests import QueriesAlone
from serving.evaluation.figures import relevant_rows
from serving.evaluation.labelled import MIN_BASKET, LabelledRequests
from serving.request import Request
from serving.shop import Shop

FOLDS = ("ranker_train", "ranker_valid")  # of events: a handful of weights takes nothing from the ranker that follows
REQUESTS = 1_500  # of each fold at most: so few weights need no more
EXPECTED = {
    TOWERS: 1.0,
    "words": 1.0,
    "same_basket": 1.0,
    "complements": 1.0,
}  # weights before any outcome is known, for scores of spread 1
TITLE_WORDS = 3  # of an item, that stand for a query where none is known
JUDGED_AT = 20  # the places that must not get worse than by the towers alone


@dataclass(frozen=True)
class PermittedRequests:
    """Requests with a known outcome after the stages up to `permit`: their candidates are yet to be weighed."""

    batch: Batch
    targets: CSR


def fit_fusions(state: ReleaseState, shop: Shop, folds: Sequence[str] = FOLDS) -> Iterator[tuple[OrderName, Fusion]]:
    """Each order's fusion, by its name. A shop that answers what was taken before has one more for those who ask not to
    have that: what is taken again drowns what tells of new things.

    Which sources are weighed for an order says each source's own declaration, see `retrieval.sources.registry`. `folds`
    are the folds of events that are read.
    """
    for order, case in orders_of(state, shop, judged=False):
        if order == "search":
            yield order, fit_search(state, shop)
        elif order == "complete_cart":
            yield order, fit(state, _carts(state, shop, folds), case)
        else:
            yield order, fit(state, _recommendations(state, shop, folds, unseen=case.unseen), case)


def fit_search(state: ReleaseState, shop: Shop) -> Fusion:
    """The fusion of a search: of the towers and the words with the same weight, as far as no outcome is known."""
    return fit(state, _searches(state, shop), FitCase(order="search"))


def orders_of(state: ReleaseState, shop: Shop, *, judged: bool = True) -> list[tuple[OrderName, FitCase]]:
    """Each order that is fitted, and the case that its sources count for; with `judged`, search where there are judged
    queries alone."""
    found: list[tuple[OrderName, FitCase]] = []
    if shop.events is not None:
        temporal = shop.events.kind == "temporal"
        orders: tuple[OrderName, ...] = ("recommend",) if state.filter_seen else ("recommend", "recommend_unseen")
        for order in orders:
            unseen = state.filter_seen or order == "recommend_unseen"
            found.append((order, FitCase(order=order, temporal=temporal, unseen=unseen)))
        if _has_carts(shop):
            unseen = state.filter_seen
            found.append(("complete_cart", FitCase(order="complete_cart", temporal=temporal, unseen=unseen)))
    if shop.judgements is not None or not judged:
        found.append(("search", FitCase(order="search")))
    return found


def fit(state: ReleaseState, found: PermittedRequests, case: FitCase) -> Fusion:
    """The weights of the towers and of the sources that count for a case, those EXPECTED where no outcome is known; the
    towers alone where they are proven to order the first places better by themselves."""
    batch, targets, retriever = found.batch, found.targets, state.retriever
    names = tuple(name for name in sources_for(case) if name in retriever.sources)
    behaviour = batch.users.behaviour._replace(queries=batch.queries.corrected)
    scored = retriever.candidates(batch.vectors, behaviour, SHORTLIST, names, batch.exclude)
    lists, span = scored.pairs, state.version.size
    taken = np.isin(lists.owners * span + lists.rows, targets.owners * span + targets.rows)
    every = (TOWERS, *names)
    features = np.column_stack([scored.scores[name] for name in every])
    fusion = fit_fusion(every, features, taken.astype(np.float32), lists, EXPECTED)
    fused = best_of_lists(lists, fusion(scored.scores), SHORTLIST, tie_breaker=scored.scores[TOWERS])
    alone = retriever.by_towers(batch.vectors, SHORTLIST, batch.exclude)
    known = batch.vectors.any(axis=1)  # of others the towers know nothing, and what is popular would answer for them
    by_all, by_towers = (ndcg_at(hits, targets, JUDGED_AT)[known] for hits in (fused, alone))
    answered = ~np.isnan(by_all)
    worse = gate(by_all[answered], by_towers[answered])  # what was expected stands until outcomes speak against it
    return Fusion.of_towers() if worse.passes("proven") else fusion


def _recommendations(state: ReleaseState, shop: Shop, folds: Sequence[str], *, unseen: bool) -> PermittedRequests:
    requests = _requests(shop, folds)
    task = TASKS["recommend_unseen" if unseen else "recommend"]
    asked = LabelledRequests(state, shop).past.recommendations(requests)
    batch = run(state, Batch(requests=asked, task=task), until=permit)
    targets = targets_of(requests)
    return PermittedRequests(batch, targets.without(batch.users.taken) if unseen else targets)


def _requests(shop: Shop, folds: Sequence[str]) -> Requests:
    """Some of each fold by time, for recent popularity and the like are computed once a day."""
    assert shop.events is not None
    requests = Requests.join([_some(shop.events.folds[name]) for name in folds])
    return requests.select(np.argsort(requests.time, kind="stable"))


def _has_carts(shop: Shop) -> bool:
    """Whether a shop of events has carts to learn from, or says what goes with an item."""
    assert shop.events is not None
    baskets = any(bool((np.diff(shop.events.folds[name].target_ptr) >= MIN_BASKET).any()) for name in FOLDS)
    return baskets or bool(shop.data.relations)


def _carts(state: ReleaseState, shop: Shop, folds: Sequence[str]) -> PermittedRequests:
    """Baskets with one item hidden, which is to be found; without any, items that the shop relates to others, whose
    outcome is not known."""
    asked: RequestSource
    asked, hidden, _ = LabelledRequests(state, shop).past_carts(_requests(shop, folds))
    if not len(asked):
        assert shop.data.relations is not None
        related = np.unique(shop.data.relations.item)[:REQUESTS].tolist()
        asked = LiveRequests([Request(task="complete_cart", history=[shop.data.item_ids[row]]) for row in related])
        hidden = CSR.empty(len(related))
    task = replace(TASKS["complete_cart"], excludes_taken=state.filter_seen)
    batch = run(state, Batch(requests=asked, task=task), until=permit)
    return PermittedRequests(batch, hidden.without(batch.users.taken) if state.filter_seen else hidden)


def _some(requests: Requests) -> Requests:
    """At most REQUESTS of a fold, drawn evenly."""
    return requests.select(np.sort(np.random.default_rng(0).permutation(len(requests))[:REQUESTS]))


def _searches(state: ReleaseState, shop: Shop) -> PermittedRequests:
    """Judged queries; without any, those that shoppers asked, and without those a few words of items, whose outcome is
    not known: they tell how far scores spread."""
    if shop.judgements is not None:
        queries = shop.judgements.folds["ranker_valid"][:REQUESTS]
        typed, targets = shop.query_texts(queries), relevant_rows(*shop.judged(queries))
    else:
        typed = list(shop.data.events.query_texts) if shop.data.events is not None else []
        typed = _few(typed or _first_words(state, shop))
        targets = CSR.empty(len(typed))
    batch = run(state, Batch(requests=QueriesAlone(typed), task=TASKS["search"]), until=permit)
    return PermittedRequests(batch, targets)


def _first_words(state: ReleaseState, shop: Shop) -> list[str]:
    return [" ".join(state.analyzer.words(text)[:TITLE_WORDS]) for text in shop.data.items["title"].to_pylist()]


def _few(texts: list[str]) -> list[str]:
    """At most REQUESTS texts, drawn evenly."""
    return [texts[at] for at in np.sort(np.random.default_rng(0).permutation(len(texts))[:REQUESTS])]
