"""Validation of towers in training on the fold `tower_valid`, and the weights of their parts that maximise recall."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from retrieval.data.events import Events
from retrieval.data.requests import Requests
from retrieval.data.split import EventSplit
from retrieval.data.time_units import HOUR
from retrieval.data.timeline import Timeline
from retrieval.metrics.ranking import recall_at
from retrieval.settings import HistoryConfig
from retrieval.topk import CSR, Vectors, exact_topk
from retrieval.training.history_tower import Catalogue, HistoryTowers, QueryPairs
from retrieval.training.item_to_item import DECAY, ItemFactors

MIN_VALID = 50  # requests below which recall is too noisy to validate by
MAX_VALID = 4_000  # requests that are read; of more, a random sample
REPEATS_MATTER = 0.05  # share of targets bought before, above which items bought before stay in the ranking
DEPTH, SHORTLIST = 20, 100  # k of the recall in training, and of the shortlist that a ranker gets
IDENTITY_WEIGHTS = (0.25, 0.5, 0.75, 1.0)  # grid; without validation the second is taken
LINEAR_WEIGHTS = (0.0, 150.0, 300.0, 600.0, 1200.0, 2400.0)  # grid of the item-to-item weights' factor among the logits
HISTORY_WEIGHTS = (0.0, 0.1, 0.25, 0.5, 1.0)  # grid of a history's weight beside a query


class QueryHistoryMix(NamedTuple):
    """How a query and the history of its shopper are combined."""

    weight: float  # of the history's vector, added to the query's
    query_as_event: bool  # the history model also reads the query, as the newest event of the history


@dataclass(frozen=True)
class Validation:
    """recall@20 over n requests. Items bought before are excluded, unless repeat purchases are common."""

    requests: Requests
    timeline: Timeline
    ends: NDArray[np.int64]  # [n] timeline position before which each request's history stands
    targets: CSR
    exclude: CSR | None  # rows that are left out of each request's ranking
    query_at: NDArray[np.int64]  # [n] timeline position of a query within the hour before each request, -1 for none
    catalogue: Catalogue
    pairs: QueryPairs
    config: HistoryConfig

    @classmethod
    def over(
        cls, events: Events, split: EventSplit, catalogue: Catalogue, pairs: QueryPairs, config: HistoryConfig
    ) -> Validation | None:
        """The validation over the fold `tower_valid`; None where it has fewer than MIN_VALID requests."""
        requests = split.folds["tower_valid"]
        if len(requests) < MIN_VALID:
            return None
        if len(requests) > MAX_VALID:
            requests = requests.select(np.random.default_rng(0).permutation(len(requests))[:MAX_VALID])
        timeline, position = Timeline.from_events(events)
        ends = position[requests.end]
        seen = timeline.items_before(requests.user, ends, timeline.codes_of(split.target_events))
        targets = CSR(requests.target_ptr, requests.target_item.astype(np.int64))
        repeats = 1 - len(targets.without(seen).rows) / len(targets.rows)
        exclude = None if repeats > REPEATS_MATTER else seen
        query_at = timeline.last_query_before(requests.user, ends, requests.time, HOUR)
        return cls(requests, timeline, ends, targets, exclude, query_at, catalogue, pairs, config)

    def __call__(self, towers: HistoryTowers) -> float:
        """The recall@20 at the best identity weight; the towers are left with that weight."""
        users, items = self._vectors(towers)
        recalls = {
            weight: self._recall(self._weighted_users(towers, users, weight), items)
            for weight in self._identity_weights
        }
        best = max(recalls, key=recalls.__getitem__)
        towers.set_identity_weight(best)
        return recalls[best]

    def fit_linear_weight(self, towers: HistoryTowers, factors: ItemFactors) -> tuple[float, float]:
        """The best weight of the item-to-item scores among the logits, and recall@20 with it.

        The identity weight is searched with it, and the towers are left with the best one. Both are chosen by the mean
        of recall@20 and recall@100: by recall@20 alone the identity gets a weight that costs the end of a shortlist.
        """
        with torch.inference_mode():
            users, items = self._vectors(towers)
        history, items = self._history_factors(factors), np.column_stack([items, factors.target])
        recalls, scale = {}, float(towers.scale.detach())
        for linear, identity in product(LINEAR_WEIGHTS, self._identity_weights):
            scaled = history * np.float32(linear / scale)
            vectors = np.column_stack([self._weighted_users(towers, users, identity), scaled])
            recalls[linear, identity] = self._recall(vectors, items), self._recall(vectors, items, SHORTLIST)
        best = max(recalls, key=lambda weights: sum(recalls[weights]))
        towers.set_identity_weight(best[1])
        return best[0], recalls[best][0]

    def fit_query_history_mix(self, towers: HistoryTowers, factors: ItemFactors | None) -> QueryHistoryMix | None:
        """The best combination of a history with the query typed within the hour before the request.

        Chosen by the mean of recall@20 and recall@100, with `factors` at their fitted scale. None where fewer than
        MIN_VALID requests followed a query.
        """
        which = np.flatnonzero(self.query_at >= 0)
        if len(which) < MIN_VALID:
            return None
        identity = float(towers.history.identity_scale * towers.scale.detach())
        recalls: dict[QueryHistoryMix, float] = {}
        for query_as_event in (True, False):
            subset = self._subset(which, self.query_at[which] + query_as_event)
            users, items, queries = subset._query_history_vectors(towers, factors, identity)
            for weight in HISTORY_WEIGHTS:
                mixed = queries + np.float32(weight) * users
                recall = subset._recall(mixed, items) + subset._recall(mixed, items, SHORTLIST)
                recalls[QueryHistoryMix(weight, query_as_event)] = recall
        return max(recalls, key=recalls.__getitem__)

    def _subset(self, which: NDArray[np.int64], ends: NDArray[np.int64]) -> Validation:
        """The requests at the positions `which`, with histories that end before the timeline positions `ends`."""
        return replace(
            self,
            requests=self.requests.select(which),
            ends=ends,
            targets=self.targets.select(which),
            exclude=None if self.exclude is None else self.exclude.select(which),
            query_at=self.query_at[which],
        )

    def _query_history_vectors(
        self, towers: HistoryTowers, factors: ItemFactors | None, identity: float
    ) -> tuple[Vectors, Vectors, Vectors]:
        """Vectors of histories (zero for those with no event before the query), of all items, and of queries."""
        with torch.inference_mode():
            users, items = self._vectors(towers)
            texts = torch.from_numpy(self.pairs.vectors[self.timeline.query[self.query_at]])
            queries = towers.head.queries(texts.to(self.catalogue.text.device)).cpu().numpy()
        towers.set_identity_weight(identity)
        users = self._weighted_users(towers, users, identity)
        if factors is not None:
            users = np.column_stack([users, self._history_factors(factors)])
            items = np.column_stack([items, factors.target])
        users[self.query_at == self.timeline.offsets[self.requests.user]] = 0
        return users, items, np.pad(queries, ((0, 0), (0, users.shape[1] - queries.shape[1])))

    def _history_factors(self, factors: ItemFactors) -> Vectors:
        """The decayed mean of the source factors over each history, float32 [n, rank]."""
        batches = (
            self.timeline.batch(self.requests.user[part], self.ends[part], self.config.longest)
            for part in self._parts()
        )
        return np.concatenate([
            np.einsum("bl,blr->br", batch.recency(DECAY), factors.source[np.maximum(batch.items, 0)])
            for batch in batches
        ])  # fmt: skip

    @property
    def _identity_weights(self) -> Sequence[float]:
        if self.config.identity_weight is not None:
            return (self.config.identity_weight,)
        return IDENTITY_WEIGHTS if self.config.identity else IDENTITY_WEIGHTS[:1]

    def _vectors(self, towers: HistoryTowers) -> tuple[Vectors, Vectors]:
        """User vectors with identity weight 1 and a last column of 1, item vectors with their bias as last column."""
        rows = torch.arange(len(self.catalogue.text), device=self.catalogue.text.device)
        items = self.catalogue.read(towers.head, rows)
        towers.set_identity_weight(1.0)
        users = user_vectors(towers, self.timeline, self.requests, self.ends, items, self.pairs, self.config.longest)
        biased = np.column_stack([items.cpu().numpy(), (towers.head.bias / towers.scale).cpu().numpy()])
        return np.column_stack([users, np.ones(len(users), np.float32)]), biased.astype(np.float32)

    def _weighted_users(self, towers: HistoryTowers, users: Vectors, identity: float) -> Vectors:
        """A copy of the user vectors with their identity part multiplied by `identity`."""
        weighted = users.copy()
        weighted[:, towers.history.dim : -1] *= np.float32(identity)
        return weighted

    def _recall(self, users: Vectors, items: Vectors, depth: int = DEPTH) -> float:
        hits = exact_topk(users, items, depth, exclude=self.exclude)
        return float(np.mean(recall_at(hits, self.targets, depth)))

    def _parts(self) -> Iterator[slice]:
        return (slice(start, start + 512) for start in range(0, len(self.requests), 512))


def user_vectors(
    towers: HistoryTowers,
    timeline: Timeline,
    requests: Requests,
    ends: NDArray[np.int64],
    items: torch.Tensor,
    pairs: QueryPairs,
    longest: int,
) -> Vectors:
    """The history model's vector of the history before each request, float32 [n, dim + identity]."""
    out = []
    queries = towers.head.queries(torch.from_numpy(pairs.vectors).to(items.device))
    for start in range(0, len(requests), 512):
        part = slice(start, start + 512)
        batch = timeline.batch(requests.user[part], ends[part], longest)
        at = [torch.from_numpy(array).to(items.device) for array in batch]
        inputs = items[at[0].clamp(min=0)] * (at[0] >= 0)[..., None]
        if len(queries):
            inputs = torch.where((at[1] >= 0)[..., None], queries[at[1].clamp(min=0)], inputs)
        out.append(towers.history(inputs, at[2], at[3], at[4])[:, -1].cpu().numpy())
    return np.concatenate(out)
