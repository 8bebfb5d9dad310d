"""Requests of a shop's folds whose outcome is known, with the candidates that a release gives them, task by task."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from retrieval.data.events import Events
from retrieval.data.requests import Requests
from retrieval.data.split import EventSplit
from retrieval.metrics.baselines import targets_of
from retrieval.topk import CSR, Hits
from serving.answering.batch import Batch
from serving.answering.release_settings import OrderName
from serving.answering.release_state import ReleaseState
from serving.answering.tasks import TASKS, Task, cart_task
from serving.evaluation.batch_requests import PastEvents, PastRequests, QueriesAlone, retrieved
from serving.evaluation.figures import relevant_rows, rerank_sample
from serving.shop import Shop

MIN_BASKET = 2  # items of a basket, of which one can be hidden


@dataclass(frozen=True, kw_only=True)
class LabelledShortlists:
    """Requests of one task as a release retrieves them, and what each was for.

    targets: the item rows that each request is to find, without what may not be answered.
    owner: int [n], whose requests are resampled together.
    past: the requests of shoppers that these are; None for queries of nobody known.
    """

    batch: Batch
    targets: CSR
    owner: NDArray[np.integer]
    past: Requests | None = None

    @property
    def hits(self) -> Hits:
        """The shortlists, best first, before any text is read."""
        return self.batch.candidates.hits

    @property
    def task(self) -> Task:
        """What all of them ask for."""
        return self.batch.task

    def __len__(self) -> int:
        return len(self.batch)

    def select(self, part: NDArray[np.int64]) -> LabelledShortlists:
        """Some of the requests, by position."""
        return LabelledShortlists(
            batch=self.batch.select(part),
            targets=self.targets.select(part),
            owner=self.owner[part],
            past=None if self.past is None else self.past.select(part),
        )


@dataclass(frozen=True)
class LabelledRequests:
    """The labelled requests of a shop over one release.

    Every method takes a fold by name and, as `most`, how many of its requests to take at most, drawn evenly under a
    fixed seed (0: all).
    """

    state: ReleaseState
    shop: Shop

    def recommendations(self, fold: str, *, unseen: bool | None = None, most: int = 0) -> LabelledShortlists:
        """Recommendations for shoppers; `unseen`: without what they took before, None: as the release answers."""
        return self.of_requests(self._requests(fold, most), unseen=unseen)

    def of_requests(self, requests: Requests, *, unseen: bool | None = None) -> LabelledShortlists:
        """The same for any requests of the shop."""
        unseen = self.state.filter_seen if unseen is None else unseen
        task = TASKS["recommend_unseen" if unseen else "recommend"]
        return self._labelled(self.past.recommendations(requests), task, targets_of(requests), requests)

    def searches(self, fold: str, *, texts: Sequence[str] | None = None, most: int = 0) -> LabelledShortlists:
        """Judged queries of nobody known; relevant is the highest grade present. `texts` in place of the fold's own."""
        assert self.shop.judgements is not None
        queries = self.shop.judgements.folds[fold]
        part = rerank_sample(len(queries), most)
        typed = self.shop.query_texts(queries[part]) if texts is None else [texts[at] for at in part.tolist()]
        batch = retrieved(self.state, QueriesAlone(typed), TASKS["search"])
        targets = relevant_rows(*self.shop.judged(queries[part]))
        return LabelledShortlists(batch=batch, targets=targets, owner=queries[part].astype(np.int64))

    def personalised_searches(self, fold: str, *, most: int = 0) -> LabelledShortlists | None:
        """What shoppers searched for just before they took something, asked with their history; None where no event of
        the fold has a query."""
        if self.shop.events is None or not self._events.query_texts:
            return None
        asked, which = self.past.searches(self._requests(fold, most))
        if not len(which):
            return None
        requests = self._requests(fold, most).select(which)
        return self._labelled(asked, TASKS["personalised_search"], targets_of(requests), requests)

    def carts(self, fold: str, *, most: int = 0) -> list[LabelledShortlists]:
        """Baskets with one item hidden, see `past_carts`, in parts of one task each; empty where there are none. Carts
        without an order of their own are answered in that of any recommendation or in that of new things, by whether
        their shoppers had taken something before (`cart_task`)."""
        if self.shop.events is None or not self._events.has_baskets:
            return []
        asked, hidden, requests = self.past_carts(self._requests(fold, most))
        repeats = np.diff(asked.taken().indptr) > 0
        parts: dict[Task, NDArray[np.int64]] = {}
        for known in (True, False):
            task = cart_task(self.state, self.state.filter_seen, repeats=known)
            parts[task] = np.sort(np.append(parts.get(task, np.empty(0, np.int64)), np.flatnonzero(repeats == known)))
        return [
            self._labelled(asked.select(part), task, hidden.select(part), requests.select(part))
            for task, part in parts.items()
            if len(part)
        ]

    def past_carts(self, requests: Requests) -> tuple[PastRequests, CSR, Requests]:
        """Baskets of two items or more among requests with one item hidden, those items, which are to be found, and
        their requests. Which item is hidden depends on the ids of shopper and items alone."""
        requests = requests.select(np.flatnonzero(np.diff(requests.target_ptr) >= MIN_BASKET))
        carts, hidden = self._hide_one(requests)
        return self.past.carts(requests, carts), hidden, requests

    def of_fold(self, fold: str, *, most: int = 0) -> Iterator[tuple[OrderName, LabelledShortlists]]:
        """Of each order that is fitted: recommendation as the release answers by default, of unseen items where it
        weighs those apart, and search."""
        if self.shop.events is not None:
            yield "recommend", self.recommendations(fold, most=most)
            if "recommend_unseen" in self.state.retriever.fusions:
                yield "recommend_unseen", self.recommendations(fold, unseen=True, most=most)
            for part in self.carts(fold, most=most) if "complete_cart" in self.state.retriever.fusions else []:
                yield "complete_cart", part
        if self.shop.judgements is not None:
            yield "search", self.searches(fold, most=most)

    @cached_property
    def past(self) -> PastEvents:
        """The shop's events as the release's towers read them."""
        return PastEvents.of(self.state, self._events, self.shop.target_events)

    @property
    def _events(self) -> Events:
        assert self.shop.data.events is not None
        return self.shop.data.events

    @property
    def _split(self) -> EventSplit:
        assert self.shop.events is not None
        return self.shop.events

    def _requests(self, fold: str, most: int) -> Requests:
        requests = self._split.folds[fold]
        return requests.select(rerank_sample(len(requests), most))

    def _labelled(self, asked: PastRequests, task: Task, targets: CSR, requests: Requests) -> LabelledShortlists:
        batch = retrieved(self.state, asked, task)
        if task.excludes_taken:
            targets = targets.without(asked.taken())
        return LabelledShortlists(batch=batch, targets=targets, owner=requests.user, past=requests)

    def _hide_one(self, requests: Requests) -> tuple[CSR, CSR]:
        """The basket of each request without one of its items, and that item."""
        baskets = targets_of(requests)
        users = np.array([_hash(self.shop.data.user_ids[user]) for user in requests.user.tolist()], np.uint64)
        mixed = self._item_hashes[baskets.rows] ^ users[baskets.owners]
        order = np.lexsort((mixed, baskets.owners))
        shuffled = CSR(baskets.indptr, baskets.rows[order])
        hidden = np.arange(len(order)) == shuffled.indptr[:-1][shuffled.owners]
        return shuffled.where(~hidden), shuffled.where(hidden)

    @cached_property
    def _item_hashes(self) -> NDArray[np.uint64]:
        return np.array([_hash(item_id) for item_id in self.shop.data.item_ids], np.uint64)


def _hash(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big")
