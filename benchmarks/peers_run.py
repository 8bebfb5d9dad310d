"""Peers of a data set beside a bundle of it, in one run."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import numpy as np

from benchmarks.latency import workload
from benchmarks.load import Call
from benchmarks.peers import FEW_TIMED, TIMED, WIDTH, Grids, Peers, cost_line
from benchmarks.recall_run import RecallRun
from benchmarks.results import Line
from benchmarks.sweep import Knobs, open_engine
from indexing.store import Bundle
from retrieval.pretrained import pretrained_source
from retrieval.runtime import pick_device
from retrieval.training_progress import quiet_libraries
from serving.options import settings_of
from serving.shop import Shop
from serving.show import say
from serving.tables import OURS


@dataclass(frozen=True)
class PeersRun:
    """A data set, a bundle of it if there is one, and how much each peer is tried."""

    data: Path
    bundle: Path | None
    grids: Grids
    device: str
    seed: int
    model: str | None = None
    cross_encoder: Path | None = None
    rectools: Path | None = None
    quick: bool = False

    def lines(self) -> Iterator[Line]:
        """What the bundle finds and costs, then every peer. Raises BadData, BadBundle and MissingDependency."""
        if self.bundle is not None:
            yield from self._ours(self.bundle)
        config = settings_of()
        shop = Shop.open(self.data, config.data, now=datetime.now(UTC))
        model = pretrained_source(self.model or config.retrieval.text.model)
        peers = Peers(
            shop, self.grids, pick_device(self.device), self.seed, model, self.cross_encoder, self.rectools,
            queries=FEW_TIMED if self.quick else 1_000, timed=self._timed,
        )  # fmt: skip
        with quiet_libraries():
            yield from peers.lines()

    @property
    def _timed(self) -> int:
        return FEW_TIMED if self.quick else TIMED

    def _ours(self, bundle: Path) -> Iterator[Line]:
        measured = RecallRun(self.data, bundle, self.device, self.quick, quality_alone=True).lines()
        yield from (line for line in measured if line.measured == "quality" and line.labels["stage"] in OURS)
        say("-- shortlist")
        engine = open_engine(bundle, Knobs(), self.device)
        calls = workload(engine, self._timed, np.random.default_rng(self.seed), Knobs(k=WIDTH))
        for kind, some in calls.items():
            task = "search" if kind == "search" else "recommend"
            if kind in ("recommend", "recommend, not reranked", "search"):
                labels = {"task": task, "peer": f"shortlist, {kind}", "chosen": "as published"}
                answer = partial(_asked, some)
                yield cost_line(labels, answer, len(some), seconds=None, megabytes=_megabytes(bundle))


def _asked(calls: Sequence[Call], which: Sequence[int]) -> None:
    for at in which:
        calls[at]()


def _megabytes(bundle: Path) -> float:
    """What the live index holds."""
    releases = Bundle.open(bundle)
    folder = releases.path_of("index", releases.current().index)
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 1e6
