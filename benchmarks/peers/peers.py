"""Other libraries on the same data and split, in one run: quality, latency, build time and memory.

Every peer that recommends is trained on the split's training events, with settings chosen on `tower_valid` alone, and
ranks the whole catalogue for the test requests. Every peer that searches is built as its documentation shows. All of
them, and the bundle, are timed on the same sample of those requests.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from benchmarks.models.onnx_reranker import import_onnxruntime
from benchmarks.peers.costs import batch_rate, cost_line, latencies
from benchmarks.peers.recommenders import Grids, RankRequests, Recommenders, TrainedPeer
from benchmarks.peers.text_pipelines import (
    BuiltSearch,
    Find,
    build_bm25s,
    build_embeddings,
    with_cross_encoder,
    with_onnx,
)
from benchmarks.quality.recall import Quality
from benchmarks.quality.tasks import events_and_split, recommend_tasks
from benchmarks.result_lines import Line
from retrieval.data.requests import Requests
from retrieval.errors import MissingDependency
from retrieval.metrics.baselines import event_baselines
from retrieval.text.rendering import item_texts
from retrieval.topk import Hits, Vectors
from serving.cli.show import say
from serving.internals import MeasuredTask, Shop, relevant_rows

WIDTH = 100  # items of a peer's answer
TIMED, FEW_TIMED = 100, 3  # requests whose latency is measured, one at a time; the latter in a quick run
QUERIES = 500  # whose quality is measured: a CrossEncoder takes half a second for each


class Reranker(NamedTuple):
    """A CrossEncoder, a folder or an id, and its description."""

    source: str
    about: str


@dataclass(frozen=True)
class Peers:
    """The peers of one data set.

    model: the SentenceTransformer of peers that read texts, a folder or an id. reranker: of peers that rerank, which
    are left out without one. own: stages of the bundle's search, measured on the same queries.
    """

    shop: Shop
    grids: Grids
    device: str
    seed: int
    model: str
    reranker: Reranker | None = None
    own: Mapping[str, Find] = field(default_factory=dict)
    queries: int = QUERIES  # test queries at most
    timed: int = TIMED  # requests whose latency is taken

    def lines(self) -> Iterator[Line]:
        """Quality of every baseline and peer, and the costs of every peer.

        Raises MissingDependency where a peer's package is missing.
        """
        if self.shop.events is not None:
            yield from self._recommend()
        if self.shop.judgements is not None:
            if self._query_texts():
                yield from self._search()
            else:
                say("the test fold has no judged query: peers that search are left out")

    def timed_requests(self) -> Requests:
        """Test requests that every peer is timed on, sampled by the seed."""
        _, split = events_and_split(self.shop)
        return split.folds["test"].select(self._sample(len(split.folds["test"])))

    def timed_queries(self) -> list[str]:
        """Texts of test queries that every peer is timed on, sampled by the seed."""
        texts = self._query_texts()
        return [texts[at] for at in self._sample(len(texts))]

    def _recommend(self) -> Iterator[Line]:
        events, split = events_and_split(self.shop)
        requests, timed, costs = split.folds["test"], self.timed_requests(), []
        stages = event_baselines(events, requests, split, self.shop.data.n_items)
        for name, fit in self.recommenders().items():
            say(f"-- {name}")
            begun = time.perf_counter()
            peer = fit()
            chosen = time.perf_counter() - begun
            stages[name] = peer.ranked(requests)
            costs.append(self._cost(name, peer, timed, chosen))
        yield from self._quality(recommend_tasks(self.shop, stages))
        yield from costs

    def _quality(self, tasks: Mapping[str, MeasuredTask]) -> Iterator[Line]:
        """The lines of `Quality` without the exposure of groups, which is not needed to compare peers."""
        return (line for line in Quality(self.shop, tasks).lines() if line.measured != "exposure")

    def _cost(self, name: str, peer: TrainedPeer, timed: Requests, chosen: float) -> Line:
        """The costs of a recommender whose whole grid took `chosen` seconds."""
        labels = {"task": "recommend", "peer": name, "chosen": peer.chosen}
        built = (chosen if peer.seconds is None else peer.seconds, chosen)
        answer, n = partial(_ranks, peer.ranked, timed), len(timed)
        if not n:
            return cost_line(labels, (), built=built, megabytes=peer.megabytes)
        spent, batched = latencies(answer, n), batch_rate(answer, n)
        return cost_line(labels, spent, built=built, megabytes=peer.megabytes, batched=batched)

    def recommenders(self) -> dict[str, Callable[[], TrainedPeer]]:
        """The function that trains each peer that recommends."""
        return Recommenders(self.shop, self.grids, self.device, self.seed, lambda: self._embedded[1]).all()

    def _search(self) -> Iterator[Line]:
        assert self.shop.judgements is not None
        queries = self.shop.judgements.folds["test"][: self.queries]
        texts, timed = self._query_texts(), self.timed_queries()
        judged, grades = self.shop.judged(queries)
        stages = {name: find(texts, WIDTH) for name, find in self.own.items()}
        costs: list[Line] = []
        for name, build in self.searchers().items():
            say(f"-- search, {name}")
            built = build()
            begun = time.perf_counter()
            stages[name] = built.find(texts, WIDTH)
            batched = len(texts) / (time.perf_counter() - begun)
            labels = {"task": "search", "peer": name, "chosen": built.chosen}
            spent = latencies(partial(_finds, built.find, timed), len(timed))
            seconds = (built.seconds, built.seconds)
            costs.append(cost_line(labels, spent, built=seconds, megabytes=built.megabytes, batched=batched))
        targets = relevant_rows(judged, grades)
        yield from self._quality({"search": MeasuredTask(targets=targets, stages=stages)})
        yield from costs

    def searchers(self) -> dict[str, Callable[[], BuiltSearch]]:
        """The function that builds each peer that searches. Peers that cannot run are left out with a message."""
        found: dict[str, Callable[[], BuiltSearch]] = {
            "bm25s": lambda: build_bm25s(self._item_texts),
            "sentence_transformers_faiss": lambda: self._embedded[0],
        }
        if (reranker := self.reranker) is None:
            return found
        chosen = f"as documented, {reranker.about}"
        found["sentence_transformers_faiss_cross_encoder"] = lambda: with_cross_encoder(
            self._embedded[0], self._item_texts, reranker.source, device=self.device
        )._replace(chosen=chosen)
        if (obstacle := self._onnx_obstacle()) is None:
            found["sentence_transformers_faiss_onnx_int8"] = lambda: with_onnx(
                self._embedded[0], self._item_texts, reranker.source
            )._replace(chosen=chosen)
        else:
            say(f"left out: {obstacle}")
        return found

    def _onnx_obstacle(self) -> str | None:
        if self.device != "cpu":
            return f"the int8 ONNX reranker runs on CPUs only, and the models run on {self.device}"
        try:
            import_onnxruntime()
        except MissingDependency as error:
            return str(error)
        return None

    def _sample(self, n: int) -> NDArray[np.int64]:
        return np.random.default_rng(self.seed).permutation(n)[: self.timed]

    def _query_texts(self) -> list[str]:
        assert self.shop.judgements is not None
        return self.shop.query_texts(self.shop.judgements.folds["test"][: self.queries])

    @cached_property
    def _embedded(self) -> tuple[BuiltSearch, Vectors]:
        return build_embeddings(self._item_texts, self.model, device=self.device)

    @cached_property
    def _item_texts(self) -> list[str]:
        return item_texts(self.shop.data.items)


def _ranks(ranked: RankRequests, requests: Requests, which: Sequence[int]) -> Hits:
    return ranked(requests.select(np.asarray(which, np.int64))).rank(WIDTH)


def _finds(find: Find, texts: Sequence[str], which: Sequence[int]) -> Hits:
    return find([texts[at] for at in which], WIDTH)
