"""Smaller data sets for experiments: a stable share of users and queries, and items withheld from all training."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from retrieval.data.dataset import DataSet
from retrieval.data.events import Events
from retrieval.data.judgements import Judgements
from retrieval.data.requests import Requests
from retrieval.data.split import EventSplit, split_events, split_judgements
from retrieval.topk import CSR
from retrieval.training.text_tower import hashed_share
from serving.internals import DataConfig, Shop


def share_of(data: DataSet, share: float, config: DataConfig) -> Shop:
    """A shop with about `share` of the users, with all their events, and of the training queries; all items stay.

    Ids are sampled by hash: the same in every run, and a larger share contains every smaller one. All queries that are
    measured on stay.
    """
    users = _sampled("user", data.user_ids, share)
    if data.events is not None:
        data = replace(data, events=events_of(data.events, users[data.events.user]))
    events = judgements = None
    if data.events is not None:
        events = split_events(data, kind=config.split, target_events=config.target_events, min_rating=config.min_rating)
    if data.queries is not None and data.judgements is not None:
        judgements = split_judgements(data)
        train = judgements.folds["train"]
        kept = _sampled("query", [data.queries.ids[query] for query in train], share)
        judgements = replace(judgements, folds={**judgements.folds, "train": train[kept]})
    return Shop(data, events, judgements)


def events_of(events: Events, kept: NDArray[np.bool_]) -> Events:
    """The events of a mask, bool [n_events]; the codes of users and kinds stay the same."""
    columns = ("user", "item", "kind", "time", "query", "basket", "quantity", "price", "rating")
    return replace(
        events,
        **{name: getattr(events, name)[kept] for name in columns},
        offsets=_before(kept)[events.offsets],
    )


def withhold(shop: Shop, share: float) -> tuple[Shop, dict[str, Requests]]:
    """The shop without the events of about `share` of the items, and by fold the requests for those items.

    The shop's own folds keep their targets among the other items. The requests for withheld items have the same
    histories, without withheld items: only an item's content can find it.
    """
    assert shop.data.events is not None
    assert shop.events is not None
    items = _sampled("item", shop.data.item_ids, share)
    kept = ~items[shop.data.events.item]
    before = _before(kept)

    def with_targets(requests: Requests, wanted: NDArray[np.bool_]) -> Requests:
        lists = CSR(requests.target_ptr, requests.target_item.astype(np.int64))
        chosen = wanted[lists.rows]
        sizes = np.bincount(lists.owners[chosen], minlength=len(requests))
        cut = Requests(
            requests.user, before[requests.end], _pointers(sizes), requests.target_item[chosen], requests.time
        )
        return cut.select(sizes > 0)

    split: EventSplit = replace(
        shop.events,
        train=shop.events.train[kept],
        train_target=shop.events.train_target[kept],
        folds={name: with_targets(fold, ~items) for name, fold in shop.events.folds.items()},
    )
    data = replace(shop.data, events=events_of(shop.data.events, kept))
    apart = {name: with_targets(fold, items) for name, fold in shop.events.folds.items()}
    if shop.judgements is not None and data.judgements is not None:
        data = replace(data, judgements=_without(data.judgements, items, shop.judgements.folds["train"]))
    return Shop(data, split, shop.judgements), apart


def _without(judgements: Judgements, items: NDArray[np.bool_], train: NDArray[np.integer]) -> Judgements:
    """The judgements without those of some items (bool [n_items]) in training queries."""
    kept = ~(items[judgements.item] & np.isin(judgements.query, train))
    return replace(
        judgements, **{name: getattr(judgements, name)[kept] for name in ("query", "item", "grade", "split")}
    )


def held_out(folds: Mapping[str, Requests]) -> Requests:
    """All folds but test as one: requests that no tower trains on, many more than `tower_valid` alone, so that smaller
    differences show. A tenth of them were used for early stopping."""
    return Requests.join([requests for name, requests in folds.items() if name != "test"])


def _sampled(what: str, ids: tuple[str, ...] | list[str], share: float) -> NDArray[np.bool_]:
    """A sample by a hash of its own, independent of the folds and of what trainings hold out."""
    return hashed_share([f"{what} {one}" for one in ids], share)


def _before(kept: NDArray[np.bool_]) -> NDArray[np.int64]:
    """The number of kept events before each event, and before the end, int64 [n_events + 1]."""
    return np.concatenate(([0], np.cumsum(kept))).astype(np.int64)


def _pointers(sizes: NDArray[np.integer]) -> NDArray[np.int64]:
    return np.concatenate(([0], np.cumsum(sizes))).astype(np.int64)
