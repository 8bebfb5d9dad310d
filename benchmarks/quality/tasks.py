"""The tasks of every retriever: test requests with seen items removed and kept, and judged queries."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from retrieval.data.events import Events
from retrieval.data.split import EventSplit
from retrieval.errors import BadData
from retrieval.metrics.baselines import Baseline, histories, query_baselines, targets_of
from retrieval.text.rendering import item_texts
from retrieval.topk import Hits
from serving.internals import MeasuredTask, Shop, noisy_queries, relevant_rows, request_slices

ANSWERED = 10  # items of an answer
SEARCHED = 300  # hits of a search: more than 100, so that ties at rank 100 are complete


def events_and_split(shop: Shop) -> tuple[Events, EventSplit]:
    """The events of a data set and their split. Raises BadData where it has none."""
    if shop.data.events is None or shop.events is None:
        raise BadData("the data set has no events, which recommendation needs; add events.parquet")
    return shop.data.events, shop.events


def recommend_tasks(shop: Shop, stages: Mapping[str, Baseline]) -> dict[str, MeasuredTask]:
    """The tasks `seen_removed` and `seen_kept` of the test requests, with the slices of every evaluation."""
    events, split = events_and_split(shop)
    requests, found = split.folds["test"], {}
    taken = histories(events, requests, split.target_events)
    counts = training_counts(shop)
    for mode, exclude in (("seen_removed", taken), ("seen_kept", None)):
        targets = targets_of(requests) if exclude is None else targets_of(requests).without(exclude)
        found[mode] = MeasuredTask(
            targets=targets,
            stages={name: stage.places(targets, exclude=exclude) for name, stage in stages.items()},
            heads={name: stage.rank(ANSWERED, exclude=exclude) for name, stage in stages.items()},
            users=requests.user,
            counts=counts,
            slices=request_slices(events, requests, targets, counts, taken if exclude is None else None),
        )
    return found


def search_task(shop: Shop) -> MeasuredTask:
    """The judged queries of the test fold and their misspelt variant, answered by the baselines that need no model."""
    assert shop.judgements is not None
    queries = shop.judgements.folds["test"]
    targets, items = relevant_rows(*shop.judged(queries)), item_texts(shop.data.items)

    def ranked(texts: Sequence[str]) -> dict[str, Hits]:
        return {
            name: baseline.rank(SEARCHED) for name, baseline in query_baselines(texts, items, shop.analyzer).items()
        }

    misspelt = MeasuredTask(targets=targets, stages=ranked(noisy_queries(shop, queries)))
    return MeasuredTask(targets=targets, stages=ranked(shop.query_texts(queries)), variants={"noisy_queries": misspelt})


def training_counts(shop: Shop) -> NDArray[np.int64]:
    """How often each item is a target in training, int64 [n_items]."""
    events, split = events_and_split(shop)
    return np.bincount(events.item[split.train_target], minlength=shop.data.n_items)
