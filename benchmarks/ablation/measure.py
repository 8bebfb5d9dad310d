"""The quality of a pair of towers alone: exact search, no other candidate source, no reranker."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from retrieval.data.requests import Requests
from retrieval.data.timeline import Timeline
from retrieval.metrics.baselines import histories, history_mean, inner_product, targets_of
from retrieval.metrics.ranking import Ranked
from retrieval.topk import CSR, Hits, Vectors, exact_topk
from retrieval.towers.serving import Towers
from serving.internals import (
    LONGEST,
    Figures,
    MeasuredTask,
    Shop,
    as_object,
    noisy_queries,
    relevant_rows,
    task_figures,
)

DEPTH = 100
HISTORIES_AT_ONCE = 1024


@dataclass(frozen=True)
class MeasuredTowers:
    """Towers and the data set to measure them on; `text` has its items' text vectors, float32 [n_items, text_dim]."""

    towers: Towers
    shop: Shop
    text: Vectors

    def recommend(self, requests: Requests) -> Figures:
        """Figures of requests, with items bought before removed from answers and targets."""
        seen = self._seen(requests)
        return figures_of(self._hits(requests, seen), targets_of(requests).without(seen))

    def search(self, queries: NDArray[np.integer]) -> Figures:
        """Figures of judged queries, whose items of the highest grade are relevant; `noisy_recall@k` is that of the
        same queries misspelt."""
        targets = relevant_rows(*self.shop.judged(queries))
        variants = (self.shop.query_texts(queries), noisy_queries(self.shop, queries))
        plain, noisy = (
            figures_of(exact_topk(self.towers.user.queries(texts), self._searched, DEPTH), targets)
            for texts in variants
        )
        return plain | {f"noisy_{name}": noisy[name] for name in ("recall@10", "recall@100")}

    def new_items(self, requests: Requests, untuned: Vectors) -> Figures:
        """Figures of requests for items that no history has; `untuned_recall@50` is that of the mean of the history's
        items by the vectors `untuned`, float32 [n_items, dim]."""
        assert self.shop.data.events is not None
        seen, targets = self._seen(requests), targets_of(requests)
        read = history_mean(histories(self.shop.data.events, requests), untuned)
        places = inner_product(read, untuned, self._counts).places(targets, exclude=seen)
        found = figures_of(self._hits(requests, seen), targets)
        return found | {"untuned_recall@50": figures_of(places, targets)["recall@50"]}

    def _hits(self, requests: Requests, exclude: CSR) -> Hits:
        """The best items for each history, or the most popular ones where it is empty."""
        users = self._users(requests)
        hits = exact_topk(users, self._searched, DEPTH, exclude=exclude)
        empty = np.flatnonzero(~users.any(axis=1))
        popular = self._counts.astype(np.float32)[:, None]
        ones = np.ones((len(empty), 1), np.float32)
        hits.put(empty, exact_topk(ones, popular, DEPTH, exclude=exclude.select(empty)))
        return hits

    def _users(self, requests: Requests) -> Vectors:
        """The user tower's vectors, float32 [n_requests, index_dim]."""
        timeline, position = self._timeline
        longest = int(self.towers.config.history.get("longest", LONGEST))
        found = [np.empty((0, self._searched.shape[1]), np.float32)]
        for start in range(0, len(requests), HISTORIES_AT_ONCE):
            part = slice(start, start + HISTORIES_AT_ONCE)
            batch = timeline.batch(requests.user[part], position[requests.end[part]], longest)
            found.append(self.towers.user.histories(batch, self._readings, self._query_vectors))
        return np.concatenate(found)

    def _seen(self, requests: Requests) -> CSR:
        assert self.shop.data.events is not None
        return histories(self.shop.data.events, requests, self.shop.target_events)

    @cached_property
    def _readings(self) -> Vectors:
        """The item tower's output, float32 [n_items, index_dim + linear]."""
        return self.towers.item.vectors(self.text, self.shop.data.items)

    @cached_property
    def _searched(self) -> Vectors:
        return np.ascontiguousarray(self._readings[:, : self.towers.config.index_dim])

    @cached_property
    def _timeline(self) -> tuple[Timeline, NDArray[np.int64]]:
        assert self.shop.data.events is not None
        timeline, position = Timeline.from_events(self.shop.data.events)
        return timeline.recoded(self.towers.config.kinds), position

    @cached_property
    def _query_vectors(self) -> Vectors | None:
        """The vectors of past queries in histories, float32 [n_queries, index_dim]."""
        assert self.shop.data.events is not None
        texts = self.shop.data.events.query_texts
        return self.towers.user.queries(texts) if texts else None

    @cached_property
    def _counts(self) -> NDArray[np.int64]:
        """How often each item is a target in training, int64 [n_items]."""
        assert self.shop.data.events is not None
        assert self.shop.events is not None
        return np.bincount(self.shop.data.events.item[self.shop.events.train_target], minlength=self.shop.data.n_items)


def figures_of(ranked: Ranked, targets: CSR) -> Figures:
    """`n` and the figures of an evaluation at all its cuts."""
    found = task_figures(MeasuredTask(targets=targets, stages={"towers": ranked}))
    return {"n": found["n"], **as_object(as_object(found["stages"])["towers"])}
