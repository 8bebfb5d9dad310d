"""What else a shop could take, on the same data and split, in one run: quality, latency, build time, memory.

Every peer that recommends learns from the split's training events, is chosen on `tower_valid` alone (but that of
RecTools, which trains as long as it is told), and ranks the whole catalogue for the test requests. Every peer that
searches is built as its own documentation shows.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import NamedTuple, TypeAlias

import numpy as np

from benchmarks.als import GRID, AlsConfig, FittedAls, best_als
from benchmarks.factorised import BPR_FACTORS, NEIGHBOURS, fit_bpr, fit_neighbours
from benchmarks.recall import Quality
from benchmarks.rectools_peer import RecTools, RecToolsConfig
from benchmarks.results import Line, percentiles
from benchmarks.sasrec import SasRec, SasRecConfig, item_vectors, train_sasrec, user_vectors
from benchmarks.sequences import Sequences, examples, padded, request_histories, training_sequences
from benchmarks.tasks import event_side, recommend_tasks, training_counts
from benchmarks.text_pipelines import BuiltSearch, Finds, build_bm25s, build_embeddings, with_cross_encoder
from retrieval.baselines import Baseline, Positions, event_baselines, histories, history_mean, inner_product, targets_of
from retrieval.metrics import Counts, recall_at
from retrieval.requests import Requests
from retrieval.text import item_texts
from retrieval.topk import Hits, Scores, Vectors
from serving.evaluate import Task, relevant_rows
from serving.shop import Shop
from serving.show import say

DEPTH = 20  # recall@20 on tower_valid chooses, as it does for the towers
WIDTH = 100  # items that a peer proposes
TIMED, FEW_TIMED = 200, 20  # requests, one at a time, whose latency is taken: as a rule, and in a hurry
Ranks: TypeAlias = Callable[[Requests], Baseline]


class FittedPeer(NamedTuple):
    """A recommender, what was chosen for it, the memory that it holds (10^6 bytes), and whether it answers in this
    process, where one answer can be timed."""

    ranked: Ranks
    chosen: str
    megabytes: float
    within: bool = True


@dataclass(frozen=True, kw_only=True)
class Grids:
    """What each peer is chosen from."""

    als: Sequence[AlsConfig] = GRID
    bpr: Sequence[int] = BPR_FACTORS
    neighbours: Sequence[int] = NEIGHBOURS
    sasrec: SasRecConfig = field(default_factory=SasRecConfig)
    rectools: RecToolsConfig = field(default_factory=RecToolsConfig)

    @classmethod
    def quick(cls) -> Grids:
        """One setting each."""
        return cls(
            als=GRID[:1],
            bpr=(16,),
            neighbours=NEIGHBOURS[:1],
            sasrec=SasRecConfig(epochs=1, width=32),
            rectools=RecToolsConfig(1, factors=32),
        )


@dataclass(frozen=True)
class Peers:
    """The peers of one shop. `model` is the SentenceTransformer of those that read texts, a folder or an id;
    `cross_encoder` the folder of a reranker; `rectools` an interpreter that has RecTools, without which it is left out.
    """

    shop: Shop
    grids: Grids
    device: str
    seed: int
    model: str
    cross_encoder: Path | None = None
    rectools: Path | None = None
    queries: int = 1_000  # test queries at most
    timed: int = TIMED  # requests whose latency is taken

    def lines(self) -> Iterator[Line]:
        """Quality of every baseline and peer, and what each costs.

        Raises MissingDependency where a peer's package is missing.
        """
        if self.shop.events is not None:
            yield from self._recommend()
        if self.shop.judgements is not None:
            yield from self._search()

    def _recommend(self) -> Iterator[Line]:
        events, split = event_side(self.shop)
        requests, costs = split.folds["test"], []
        stages = event_baselines(events, requests, split, self.shop.data.n_items)
        for name, fit in self.recommenders().items():
            say(f"-- {name}")
            begun = time.perf_counter()
            peer = fit()
            built = time.perf_counter() - begun
            stages[name] = peer.ranked(requests)
            labels = {"task": "recommend", "peer": name, "chosen": peer.chosen}
            answer = partial(_ranks, peer.ranked, requests)
            timed = min(self.timed, len(requests)) if peer.within else 0
            costs.append(cost_line(labels, answer, timed, seconds=built, megabytes=peer.megabytes))
        yield from Quality(self.shop, recommend_tasks(self.shop, stages)).lines()
        yield from costs

    def recommenders(self) -> dict[str, Callable[[], FittedPeer]]:
        """What fits each peer that recommends."""
        found = {
            "als": self._als, "bpr": self._bpr, "implicit_item_knn": self._neighbours, "sasrec_ids": self._sasrec,
            "sentence_transformers": self._texts,
        }  # fmt: skip
        return found if self.rectools is None else {**found, "rectools_sasrec": partial(self._rectools, self.rectools)}

    def _als(self) -> FittedPeer:
        def ranked(fitted: FittedAls, requests: Requests) -> Baseline:
            events, _ = event_side(self.shop)
            return inner_product(fitted.users(request_histories(events, requests)), fitted.items, self._counts)

        best = best_als(
            self._sequences.items, self.shop.data.n_items, lambda fitted: self._valid(partial(ranked, fitted)),
            seed=self.seed, grid=tuple(self.grids.als),
        )  # fmt: skip
        return FittedPeer(partial(ranked, best), _said(best.config._asdict()), best.items.nbytes / 1e6)

    def _bpr(self) -> FittedPeer:
        def fitted(factors: int) -> FittedPeer:
            found = fit_bpr(self._sequences.items, self.shop.data.n_items, factors, seed=self.seed)
            held = (found.items.nbytes + found.users.nbytes) / 1e6
            return FittedPeer(
                lambda requests: inner_product(found.users[requests.user], found.items, self._counts),
                f"factors {factors}", held,
            )  # fmt: skip

        return self._best([partial(fitted, factors) for factors in self.grids.bpr])

    def _neighbours(self) -> FittedPeer:
        events, _ = event_side(self.shop)
        below_any = np.float32(self._counts.max(initial=0) + 1)  # popularity decides where nothing is taken together
        popular: Scores = self._counts.astype(np.float32) / below_any

        def fitted(neighbours: int) -> FittedPeer:
            found = fit_neighbours(self._sequences.items, self.shop.data.n_items, neighbours)

            def ranked(requests: Requests) -> Baseline:
                read = request_histories(events, requests)

                def score(part: Positions) -> Scores:
                    scores = found.scores(read.select(part))
                    return np.where(scores > 0, 1 + scores, popular).astype(np.float32, copy=False)

                return Baseline(len(requests), self.shop.data.n_items, score)

            return FittedPeer(ranked, f"K {neighbours}", found.megabytes)

        return self._best([partial(fitted, neighbours) for neighbours in self.grids.neighbours])

    def _sasrec(self) -> FittedPeer:
        events, _ = event_side(self.shop)
        config = self.grids.sasrec

        def ranked(model: SasRec, requests: Requests) -> Baseline:
            read = padded(request_histories(events, requests), config.longest)
            return inner_product(user_vectors(model, read), item_vectors(model), self._counts)

        trained = train_sasrec(
            examples(self._sequences, config.longest), self.shop.data.n_items, config,
            validate=lambda model: self._valid(partial(ranked, model)), device=self.device, seed=self.seed,
        )  # fmt: skip
        held = sum(part.numel() * part.element_size() for part in trained.model.parameters()) / 1e6
        return FittedPeer(partial(ranked, trained.model), f"width {config.width}, epoch {trained.epoch}", held)

    def _rectools(self, python: Path) -> FittedPeer:
        events, _ = event_side(self.shop)
        config = self.grids.rectools._replace(seed=self.seed)
        fitted = RecTools.fit(python, self._sequences.items, config)

        def ranked(requests: Requests) -> Baseline:
            return fitted.ranked(request_histories(events, requests), self._counts)

        return FittedPeer(ranked, _said(config._asdict()), fitted.weights / 1e6, within=False)

    def _texts(self) -> FittedPeer:
        """The mean vector of a history, against the vectors of the items."""
        events, _ = event_side(self.shop)
        _, vectors = self._embedded

        def ranked(requests: Requests) -> Baseline:
            mean = history_mean(request_histories(events, requests), vectors)
            return inner_product(mean, vectors, self._counts)

        return FittedPeer(ranked, "mean of the history", vectors.nbytes / 1e6)

    def _best(self, fits: Sequence[Callable[[], FittedPeer]]) -> FittedPeer:
        """The one that `tower_valid` finds best, the first of equals."""
        found = [fit() for fit in fits]
        return found[int(np.argmax([self._valid(peer.ranked) for peer in found]))] if len(found) > 1 else found[0]

    def _valid(self, ranked: Ranks) -> float:
        """recall@20 on `tower_valid`, what was taken before left out unless shoppers buy again; 0 where it is empty."""
        events, split = event_side(self.shop)
        requests = split.folds["tower_valid"]
        again = self.shop.shoppers_buy_again()
        taken = None if again else histories(events, requests, split.target_events)
        targets = targets_of(requests) if taken is None else targets_of(requests).without(taken)
        found = recall_at(ranked(requests).places(targets, exclude=taken), targets, DEPTH)
        known = found[~np.isnan(found)]
        return float(known.mean()) if len(known) else 0.0

    def _search(self) -> Iterator[Line]:
        assert self.shop.judgements is not None
        queries = self.shop.judgements.folds["test"][: self.queries]
        texts, (judged, grades) = self.shop.query_texts(queries), self.shop.judged(queries)
        stages: dict[str, Hits] = {}
        costs: list[Line] = []
        for name, build in self.searchers().items():
            say(f"-- search, {name}")
            built = build()
            stages[name] = built.find(texts, WIDTH)
            labels = {"task": "search", "peer": name, "chosen": "as documented"}
            answer = partial(_finds, built.find, texts)
            costs.append(
                cost_line(labels, answer, min(self.timed, len(texts)), seconds=built.seconds, megabytes=built.megabytes)
            )
        targets = relevant_rows(judged, grades)
        yield from Quality(self.shop, {"search": Task(targets=targets, stages=stages)}).lines()
        yield from costs

    def searchers(self) -> dict[str, Callable[[], BuiltSearch]]:
        """What builds each peer that searches."""
        found: dict[str, Callable[[], BuiltSearch]] = {
            "bm25s": lambda: build_bm25s(self._item_texts),
            "sentence_transformers_faiss": lambda: self._embedded[0],
        }
        if self.cross_encoder is not None:
            folder = self.cross_encoder
            found["sentence_transformers_faiss_cross_encoder"] = lambda: with_cross_encoder(
                self._embedded[0], self._item_texts, folder, device=self.device
            )
        return found

    @cached_property
    def _embedded(self) -> tuple[BuiltSearch, Vectors]:
        return build_embeddings(self._item_texts, self.model, device=self.device)

    @cached_property
    def _item_texts(self) -> list[str]:
        return item_texts(self.shop.data.items)

    @cached_property
    def _sequences(self) -> Sequences:
        return training_sequences(*event_side(self.shop))

    @cached_property
    def _counts(self) -> Counts:
        return training_counts(self.shop)


def cost_line(
    labels: Mapping[str, str],
    answer: Callable[[Sequence[int]], object],
    n: int,
    *,
    seconds: float | None,
    megabytes: float,
) -> Line:
    """Seconds to build, memory, milliseconds of one of n requests at a time, and requests a second all at once; where n
    is 0, no times of answers."""
    summary: dict[str, float | None] = {"build s": seconds, "MB": megabytes}
    if n == 0:
        return Line(measured="peer", labels=labels, unit="figure", summary=summary)
    spent = []
    for at in range(n):
        begun = time.perf_counter()
        answer([at])
        spent.append(1_000 * (time.perf_counter() - begun))
    every = range(len(spent))
    begun = time.perf_counter()
    answer(every)
    rate = len(every) / (time.perf_counter() - begun)
    alone = {f"{name} ms": value for name, value in percentiles(spent).items() if name != "n"}
    return Line(measured="peer", labels=labels, unit="figure", summary={**summary, **alone, "per second": rate})


def _ranks(ranked: Ranks, requests: Requests, which: Sequence[int]) -> Hits:
    return ranked(requests.select(np.asarray(which, np.int64))).rank(WIDTH)


def _finds(find: Finds, texts: Sequence[str], which: Sequence[int]) -> Hits:
    return find([texts[at] for at in which], WIDTH)


def _said(values: Mapping[str, object]) -> str:
    return ", ".join(f"{name} {value}" for name, value in values.items())
