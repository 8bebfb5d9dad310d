"""Peers that recommend: each is trained on the training events, and its settings are chosen on `tower_valid`."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import NamedTuple, TypeAlias

import numpy as np

from benchmarks.peers.implicit import (
    ALS_GRID,
    BPR_GRID,
    NEIGHBOURS_GRID,
    AlsConfig,
    BprConfig,
    FittedAls,
    NeighboursConfig,
    fit_als,
    fit_bpr,
    fit_neighbours,
)
from benchmarks.peers.sasrec import SasRec, SasRecConfig, item_vectors, train_sasrec, user_vectors
from benchmarks.peers.sequences import Sequences, pad_histories, request_histories, training_sequences, training_windows
from benchmarks.quality.tasks import events_and_split, training_counts
from retrieval.data.requests import Requests
from retrieval.metrics.baselines import Baseline, Positions, histories, history_mean, inner_product, targets_of
from retrieval.metrics.ranking import Counts, recall_at
from retrieval.progress import ProgressMeter
from retrieval.topk import Scores, Vectors
from serving.internals import Shop

DEPTH = 20  # settings are chosen by recall@20 on tower_valid, as those of the towers
RankRequests: TypeAlias = Callable[[Requests], Baseline]


class TrainedPeer(NamedTuple):
    """A trained recommender."""

    ranked: RankRequests
    chosen: str  # its settings in words
    megabytes: float  # what it holds in memory, 10^6 bytes
    seconds: float | None = None  # training of this setting alone, without the rest of its grid; None: one setting only


@dataclass(frozen=True, kw_only=True)
class Grids:
    """The grid of settings of each peer."""

    als: Sequence[AlsConfig] = ALS_GRID
    bpr: Sequence[BprConfig] = BPR_GRID
    neighbours: Sequence[NeighboursConfig] = NEIGHBOURS_GRID
    sasrec: SasRecConfig = field(default_factory=SasRecConfig)

    @classmethod
    def quick(cls) -> Grids:
        """One setting for each peer."""
        return cls(
            als=ALS_GRID[:1],
            bpr=(BprConfig(16, 0.01, 0.01),),
            neighbours=NEIGHBOURS_GRID[:1],
            sasrec=SasRecConfig(epochs=1, width=32),
        )


@dataclass(frozen=True)
class Recommenders:
    """The peers that recommend, for one data set; `texts` gives its items' text vectors, float32 [n_items, dim]."""

    shop: Shop
    grids: Grids
    device: str
    seed: int
    texts: Callable[[], Vectors]

    def all(self) -> dict[str, Callable[[], TrainedPeer]]:
        """The function that trains each peer, by name. What all of them read is prepared now, outside of any timing."""
        _ = self._sequences, self._counts
        return {
            "als": self._als, "bpr": self._bpr, "implicit_item_knn": self._neighbours, "sasrec_ids": self._sasrec,
            "sentence_transformers": self._texts,
        }  # fmt: skip

    def _als(self) -> TrainedPeer:
        def ranked(fitted: FittedAls, requests: Requests) -> Baseline:
            events, _ = events_and_split(self.shop)
            return inner_product(fitted.users(request_histories(events, requests)), fitted.items, self._counts)

        def fitted(config: AlsConfig) -> TrainedPeer:
            found = fit_als(self._sequences.items, self.shop.data.n_items, config, seed=self.seed)
            return TrainedPeer(partial(ranked, found), _describe(config._asdict()), found.items.nbytes / 1e6)

        return self._best("als", [partial(fitted, config) for config in self.grids.als])

    def _bpr(self) -> TrainedPeer:
        def fitted(config: BprConfig) -> TrainedPeer:
            found = fit_bpr(self._sequences.items, self.shop.data.n_items, config, seed=self.seed)
            held = (found.items.nbytes + found.users.nbytes) / 1e6
            return TrainedPeer(
                lambda requests: inner_product(found.users[requests.user], found.items, self._counts),
                _describe(config._asdict()), held,
            )  # fmt: skip

        return self._best("bpr", [partial(fitted, config) for config in self.grids.bpr])

    def _neighbours(self) -> TrainedPeer:
        events, _ = events_and_split(self.shop)
        above_all = np.float32(self._counts.max(initial=0) + 1)  # popularity, below 1, ranks items without a neighbour
        popular: Scores = self._counts.astype(np.float32) / above_all

        def fitted(config: NeighboursConfig) -> TrainedPeer:
            found = fit_neighbours(self._sequences.items, self.shop.data.n_items, config)

            def ranked(requests: Requests) -> Baseline:
                read = request_histories(events, requests)

                def score(part: Positions) -> Scores:
                    scores = found.scores(read.select(part))
                    return np.where(scores > 0, 1 + scores, popular).astype(np.float32, copy=False)

                return Baseline(len(requests), self.shop.data.n_items, score)

            return TrainedPeer(ranked, f"{config.by}, K {config.neighbours}", found.megabytes)

        return self._best("implicit_item_knn", [partial(fitted, config) for config in self.grids.neighbours])

    def _sasrec(self) -> TrainedPeer:
        events, _ = events_and_split(self.shop)
        config = self.grids.sasrec

        def ranked(model: SasRec, requests: Requests) -> Baseline:
            read = pad_histories(request_histories(events, requests), config.longest)
            return inner_product(user_vectors(model, read), item_vectors(model), self._counts)

        trained = train_sasrec(
            training_windows(self._sequences, config.longest), self.shop.data.n_items, config,
            validate=lambda model: self._valid(partial(ranked, model)), device=self.device, seed=self.seed,
        )  # fmt: skip
        held = sum(part.numel() * part.element_size() for part in trained.model.parameters()) / 1e6
        return TrainedPeer(partial(ranked, trained.model), f"width {config.width}, epoch {trained.epoch}", held)

    def _texts(self) -> TrainedPeer:
        """The mean text vector of a history against the items' text vectors."""
        events, _ = events_and_split(self.shop)
        vectors = self.texts()

        def ranked(requests: Requests) -> Baseline:
            mean = history_mean(request_histories(events, requests), vectors)
            return inner_product(mean, vectors, self._counts)

        return TrainedPeer(ranked, "mean of the history", vectors.nbytes / 1e6)

    def _best(self, name: str, fits: Sequence[Callable[[], TrainedPeer]]) -> TrainedPeer:
        """The setting with the best recall on `tower_valid`, the first of equals."""
        meter, best, highest = ProgressMeter(len(fits), name, unit="fits"), None, -np.inf
        for fit in fits:
            begun = time.perf_counter()
            peer = fit()
            peer = peer._replace(seconds=time.perf_counter() - begun)
            figure = self._valid(peer.ranked) if len(fits) > 1 else 0.0
            if best is None or figure > highest:
                best, highest = peer, figure
            meter.advance(1, valid=figure)
        meter.close()
        assert best is not None
        return best

    def _valid(self, ranked: RankRequests) -> float:
        """Recall@20 on `tower_valid`, without items bought before unless this shop's users buy again; 0 for an empty
        fold."""
        events, split = events_and_split(self.shop)
        requests = split.folds["tower_valid"]
        again = self.shop.shoppers_buy_again()
        taken = None if again else histories(events, requests, split.target_events)
        targets = targets_of(requests) if taken is None else targets_of(requests).without(taken)
        found = recall_at(ranked(requests).places(targets, exclude=taken), targets, DEPTH)
        known = found[~np.isnan(found)]
        return float(known.mean()) if len(known) else 0.0

    @cached_property
    def _sequences(self) -> Sequences:
        return training_sequences(*events_and_split(self.shop))

    @cached_property
    def _counts(self) -> Counts:
        return training_counts(self.shop)


def _describe(values: Mapping[str, object]) -> str:
    return ", ".join(f"{name} {value}" for name, value in values.items())
