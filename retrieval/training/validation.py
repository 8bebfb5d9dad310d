"""What a pair of towers in training finds for the requests of `tower_valid`, and the weights that find most."""

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

MIN_VALID = 50  # requests under which a validation recall is noise, and the last state is kept
MAX_VALID = 4_000
REPEATS_MATTER = 0.05  # share of targets bought before, above which validation keeps seen items
DEPTH, SHORTLIST = 20, 100  # how far down is looked in training, and what a ranker is given
IDENTITY_WEIGHTS = (0.25, 0.5, 0.75, 1.0)  # tried in validation; the second where there is none
LINEAR_WEIGHTS = (0.0, 150.0, 300.0, 600.0, 1200.0, 2400.0)  # of the closed form's weights among logits
HISTORY_WEIGHTS = (0.0, 0.1, 0.25, 0.5, 1.0)  # of a history beside a query


class Beside(NamedTuple):
    """How a history counts beside a query."""

    weight: float
    hears_query: bool  # the query is read as the newest event of the history


@dataclass(frozen=True)
class Validation:
    """recall@20 on the fold `tower_valid`, what was taken before left out unless shoppers buy again."""

    requests: Requests
    timeline: Timeline
    ends: NDArray[np.int64]  # timeline position before which each request's history stands
    targets: CSR
    exclude: CSR | None
    asked: NDArray[np.int64]  # [n] timeline position of the query of the hour before each request, -1 for none
    catalogue: Catalogue
    pairs: QueryPairs
    config: HistoryConfig

    @classmethod
    def over(
        cls, events: Events, split: EventSplit, catalogue: Catalogue, pairs: QueryPairs, config: HistoryConfig
    ) -> Validation | None:
        """None where the fold is too small to tell."""
        requests = split.folds["tower_valid"]
        if len(requests) < MIN_VALID:
            return None
        if len(requests) > MAX_VALID:
            requests = requests.select(np.random.default_rng(0).permutation(len(requests))[:MAX_VALID])
        timeline, position = Timeline.from_events(events)
        ends = position[requests.end]
        seen = timeline.items_before(requests.user, ends, timeline.codes_of(split.target_events))
        targets = CSR(requests.target_ptr, requests.target_item.astype(np.int64))
        again = 1 - len(targets.without(seen).rows) / len(targets.rows)
        exclude = None if again > REPEATS_MATTER else seen
        asked = timeline.asked_before(requests.user, ends, requests.time, HOUR)
        return cls(requests, timeline, ends, targets, exclude, asked, catalogue, pairs, config)

    def __call__(self, towers: HistoryTowers) -> float:
        """The recall at the identity weight that finds most, which the towers are left with."""
        users, items = self._vectors(towers)
        found = {weight: self._recall(self._heard(towers, users, weight), items) for weight in self._identity_weights}
        best = max(found, key=found.__getitem__)
        towers.weigh_identity(best)
        return found[best]

    def weigh_linear(self, towers: HistoryTowers, factors: ItemFactors) -> tuple[float, float]:
        """The weight of the closed form's weights among the logits that finds most, and recall@20 with it; the towers
        are left with the identity weight that goes with it. Most by the mean of recall@20 and recall@100: by the first
        alone, identity counts so much that the end of a shortlist suffers."""
        with torch.inference_mode():
            users, items = self._vectors(towers)
        said, items = self._said(factors), np.column_stack([items, factors.takes])
        found, scale = {}, float(towers.scale.detach())
        for linear, identity in product(LINEAR_WEIGHTS, self._identity_weights):
            heard = self._heard(towers, users, identity)
            loud = said * np.float32(linear / scale)
            told = np.column_stack([heard, loud])
            found[linear, identity] = self._recall(told, items), self._recall(told, items, SHORTLIST)
        best = max(found, key=lambda weights: sum(found[weights]))
        towers.weigh_identity(best[1])
        return best[0], found[best][0]

    def weigh_history(self, towers: HistoryTowers, factors: ItemFactors | None) -> Beside | None:
        """How a history counts beside the query of the hour before a request: as finds most, by the mean of recall@20
        and recall@100, the factors as loud as they are; None where too few requests were led to by a query."""
        which = np.flatnonzero(self.asked >= 0)
        if len(which) < MIN_VALID:
            return None
        identity = float(towers.history.identity_scale * towers.scale.detach())
        found: dict[Beside, float] = {}
        for hears in (True, False):
            own = self._some(which, self.asked[which] + hears)
            users, items, queries = own._beside(towers, factors, identity)
            for weight in HISTORY_WEIGHTS:
                told = queries + np.float32(weight) * users
                found[Beside(weight, hears)] = own._recall(told, items) + own._recall(told, items, SHORTLIST)
        return max(found, key=found.__getitem__)

    def _some(self, which: NDArray[np.int64], ends: NDArray[np.int64]) -> Validation:
        """Some of the requests, with histories that end elsewhere."""
        return replace(
            self,
            requests=self.requests.select(which),
            ends=ends,
            targets=self.targets.select(which),
            exclude=None if self.exclude is None else self.exclude.select(which),
            asked=self.asked[which],
        )

    def _beside(
        self, towers: HistoryTowers, factors: ItemFactors | None, identity: float
    ) -> tuple[Vectors, Vectors, Vectors]:
        """Vectors of histories, zero where nothing was done before the query, of items and of queries."""
        with torch.inference_mode():
            users, items = self._vectors(towers)
            texts = torch.from_numpy(self.pairs.vectors[self.timeline.query[self.asked]]).to(self.catalogue.text.device)
            queries = towers.head.queries(texts).cpu().numpy()
        towers.weigh_identity(identity)
        users = self._heard(towers, users, identity)
        if factors is not None:
            users, items = np.column_stack([users, self._said(factors)]), np.column_stack([items, factors.takes])
        users[self.asked == self.timeline.offsets[self.requests.user]] = 0
        return users, items, np.pad(queries, ((0, 0), (0, users.shape[1] - queries.shape[1])))

    def _said(self, factors: ItemFactors) -> Vectors:
        """What the items of each history say together, float32 [n, rank]."""
        batches = (
            self.timeline.batch(self.requests.user[part], self.ends[part], self.config.longest)
            for part in self._parts()
        )
        return np.concatenate([
            np.einsum("bl,blr->br", batch.recency(DECAY), factors.gives[np.maximum(batch.items, 0)])
            for batch in batches
        ])  # fmt: skip

    @property
    def _identity_weights(self) -> Sequence[float]:
        if self.config.identity_weight is not None:
            return (self.config.identity_weight,)
        return IDENTITY_WEIGHTS if self.config.identity else IDENTITY_WEIGHTS[:1]

    def _vectors(self, towers: HistoryTowers) -> tuple[Vectors, Vectors]:
        """User vectors whose identity counts once, with 1 against the bias, and item vectors with it."""
        rows = torch.arange(len(self.catalogue.text), device=self.catalogue.text.device)
        items = self.catalogue.read(towers.head, rows)
        towers.weigh_identity(1.0)
        users = user_vectors(towers, self.timeline, self.requests, self.ends, items, self.pairs, self.config.longest)
        biased = np.column_stack([items.cpu().numpy(), (towers.head.bias / towers.scale).cpu().numpy()])
        return np.column_stack([users, np.ones(len(users), np.float32)]), biased.astype(np.float32)

    def _heard(self, towers: HistoryTowers, users: Vectors, identity: float) -> Vectors:
        """The user vectors with their identity weighed."""
        weighed = users.copy()
        weighed[:, towers.history.dim : -1] *= np.float32(identity)
        return weighed

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
    """What the transformers make of the history before each request, float32 [n, dim + identity]."""
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
