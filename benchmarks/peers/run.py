"""`shortlist bench peers`: other libraries beside a bundle, on the same data set and in one run."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import numpy as np

from benchmarks.latency.load import Call
from benchmarks.peers.costs import cost_line, latencies
from benchmarks.peers.peers import FEW_TIMED, QUERIES, TIMED, WIDTH, Peers, Reranker
from benchmarks.peers.recommenders import Grids
from benchmarks.peers.sequences import request_histories
from benchmarks.peers.text_pipelines import Find
from benchmarks.quality.parts import OF
from benchmarks.quality.run import RecallRun
from benchmarks.quality.tasks import events_and_split
from benchmarks.result_lines import Line
from benchmarks.sweep import EngineOptions, open_engine
from indexing.bundle.bundle import Bundle
from retrieval.encoders.pretrained import pretrained_source
from retrieval.encoders.quiet import quiet_libraries
from retrieval.encoders.runtime import pick_device
from retrieval.settings import AUTO
from retrieval.text.text_model import text_model_for
from retrieval.topk import Hits
from serving.cli.options import settings_of
from serving.cli.show import say
from serving.internals import OURS, Engine, Shop, recorded_settings

ANSWERING = ("towers", "index", "shoppers", "words")  # parts of a release that answer, beside the ranker


@dataclass(frozen=True)
class PeersRun:
    """A data set, a bundle made of it if there is one, and the peers' grids. `cross_encoder` is a folder or an id; the
    bundle's own where it is None."""

    data: Path
    bundle: Path | None
    grids: Grids
    device: str
    seed: int
    model: str | None = None
    cross_encoder: str | None = None
    quick: bool = False

    def lines(self) -> Iterator[Line]:
        """Quality and costs of the bundle, then of every peer. Raises BadData, BadBundle and MissingDependency."""
        bundle = None if self.bundle is None else Bundle.open(self.bundle)
        config = settings_of(base=None if bundle is None else recorded_settings(bundle))
        shop = Shop.open(self.data, config.data, now=datetime.now(UTC))
        engine = None if self.bundle is None else open_engine(self.bundle, EngineOptions(), self.device)
        peers = Peers(
            shop, self.grids, pick_device(self.device), self.seed,
            pretrained_source(self.model or text_model_for(AUTO, shop.data.language).model), self.reranker(),
            own={} if engine is None else own_search(engine, shop),
            queries=FEW_TIMED if self.quick else QUERIES, timed=FEW_TIMED if self.quick else TIMED,
        )  # fmt: skip
        if self.bundle is not None and engine is not None:
            yield from self._ours(self.bundle, engine, peers)
        with quiet_libraries():
            yield from peers.lines()

    def reranker(self) -> Reranker | None:
        """The CrossEncoder of peers that rerank; None where none is given and the bundle has none."""
        if self.cross_encoder is not None:
            return Reranker(self.cross_encoder, f"CrossEncoder {self.cross_encoder}")
        if self.bundle is None:
            return None
        bundle = Bundle.open(self.bundle)
        name = bundle.current().ranker
        return None if name is None else Reranker(str(bundle.path_of("ranker", name)), "the bundle's own CrossEncoder")

    def _ours(self, bundle: Path, engine: Engine, peers: Peers) -> Iterator[Line]:
        if peers.shop.events is not None:
            measured = RecallRun(self.data, bundle, self.device, self.quick, quality_alone=True).lines()
            ours = (line for line in measured if line.labels["task"] != "search" and line.labels["stage"] in OURS)
            yield from (line for line in ours if OF not in line.labels)
        say("-- shortlist")
        for kind, calls in engine_calls(engine, peers).items():
            task = "search" if kind == "search" else "recommend"
            labels = {"task": task, "peer": f"shortlist, {kind}", "chosen": "as published, trained by shortlist run"}
            spent = latencies(lambda which, calls=calls: [calls[at]() for at in which], len(calls))  # type: ignore[misc]
            held = answering_megabytes(bundle, reranked="not reranked" not in kind)
            yield cost_line(labels, spent, built=None, megabytes=held)


def own_search(engine: Engine, shop: Shop) -> dict[str, Find]:
    """The engine's search without and with its cross-encoder."""
    place = {item: row for row, item in enumerate(shop.data.item_ids)}

    def finds(rerank: bool, texts: Sequence[str], k: int) -> Hits:
        rows = np.full((len(texts), k), -1, np.int64)
        for line, text in zip(rows, texts, strict=True):
            found = [
                place[hit.item_id] for hit in engine.search(text, k=k, rerank=rerank).items if hit.item_id in place
            ]
            line[: len(found)] = found
        return Hits(rows, np.where(rows >= 0, -np.arange(k), -np.inf).astype(np.float32))

    return {"fused": partial(finds, False), "final": partial(finds, True)}


def engine_calls(engine: Engine, peers: Peers) -> dict[str, list[Call]]:
    """The peers' timed requests as calls of an engine: the same histories and queries, as many items."""
    found: dict[str, list[Call]] = {}
    if peers.shop.events is not None:
        events, _ = events_and_split(peers.shop)
        lists, ids = request_histories(events, peers.timed_requests()), peers.shop.data.item_ids
        item_lists = [[ids[row] for row in lists.select(np.array([at])).rows] for at in range(lists.n_lists)]
        ask: Callable[..., Call] = partial(partial, engine.recommend, k=WIDTH)
        found["recommend"] = [ask(history=history) for history in item_lists]
        found["recommend, not reranked"] = [ask(history=history, rerank=False) for history in item_lists]
    if peers.shop.judgements is not None:
        found["search"] = [partial(engine.search, text, k=WIDTH) for text in peers.timed_queries()]
    return {kind: calls for kind, calls in found.items() if calls}


def answering_megabytes(bundle: Path, *, reranked: bool) -> float:
    """The size of the files of the live release that answer, in 10^6 bytes."""
    releases = Bundle.open(bundle)
    parts = releases.current().parts()
    kinds = [kind for kind in (*ANSWERING, *(["ranker"] if reranked else [])) if kind in parts]
    files = [path for kind in kinds for path in releases.path_of(kind, parts[kind]).rglob("*") if path.is_file()]
    return sum(path.stat().st_size for path in files) / 1e6
