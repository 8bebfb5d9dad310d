"""`shortlist bench frontier`: the latency of every strategy of reranking against its gain in quality."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from benchmarks.models.frontier import (
    REQUESTS,
    TIMED_REQUESTS,
    Point,
    labelled_lists,
    measure_strategies,
    open_strategies,
    reference_reranker,
    select_strategies,
    strategies,
)
from benchmarks.result_lines import Line, sampled
from indexing.bundle.bundle import Bundle
from retrieval.encoders.quiet import quiet_libraries
from retrieval.encoders.runtime import RuntimeOptions
from retrieval.errors import BadBundle
from retrieval.text.rendering import item_texts
from serving.cli.options import settings_of
from serving.cli.show import say
from serving.internals import ReleaseState, Shop, index_ids, recorded_settings

FEW, FEW_TIMED, FEW_FITTED = 12, 3, 20  # requests of a quick run: measured, timed, and for blends
FEW_CANDIDATES = 20  # that a quick run reranks


@dataclass(frozen=True)
class FrontierRun:
    """A bundle with a ranker, and the data set that it was made of.

    depth: candidates that are reranked. second_depths: of those, for the second stage of a cascade. only: words, one of
    which a strategy's name has to contain, see `select_strategies`. lists: requests of each task that are measured.
    """

    bundle: Path
    data: Path
    depth: int
    second_depths: Sequence[int]
    fold: str
    device: str = "auto"
    quick: bool = False
    only: Sequence[str] = ()
    lists: int = REQUESTS

    def lines(self) -> Iterator[Line]:
        """Every strategy on one fold's requests, recommendation and search. Raises BadData and BadBundle."""
        bundle = Bundle.open(self.bundle)
        release = bundle.current()
        if release.ranker is None:
            raise BadBundle(
                f"{self.bundle}: its live release has no ranker; run: shortlist train ranker {self.bundle} --data DATA"
            )
        folder = bundle.path_of("ranker", release.ranker)
        depth = min(self.depth, FEW_CANDIDATES) if self.quick else self.depth
        available = strategies(folder, depth=depth, second_depths=self.second_depths, device=self.device)
        wanted = select_strategies(available, self.only)
        with quiet_libraries():
            settings = settings_of(base=recorded_settings(bundle))
            shop = Shop.open(self.data, settings.data, now=datetime.now(UTC), like=index_ids(bundle, release))
            state = ReleaseState.of_release(bundle, release, RuntimeOptions(device=self.device))
            most, timed = (FEW, FEW_TIMED) if self.quick else (self.lists, TIMED_REQUESTS)
            fitted = FEW_FITTED if self.quick else None
            opened = open_strategies(bundle, state, shop, wanted, device=self.device, most=fitted, say=say)
            reference = reference_reranker(folder, item_texts(shop.data.items), depth, self.device)
            for found in labelled_lists(state, shop, self.fold, most=most):
                points = measure_strategies(wanted, opened, found, reference=reference, timed=timed)
                yield from (_line(str(found.task.gate), point) for point in points)


def _line(task: str, point: Point) -> Line:
    line = sampled("frontier", {"task": task, "way": point.name}, "ms", point.milliseconds)
    share = None if math.isnan(point.share) else point.share
    lift = {"lift": point.lift.mean, "low": point.lift.low, "high": point.lift.high, "kept": share}
    lift |= {"reweighed": point.reweighed.mean}
    faster = None if math.isnan(point.faster) else point.faster
    return replace(line, summary={**line.summary, "times faster": faster, **lift, "lists": float(point.lift.n)})
