"""`shortlist bench frontier`: what each way of reranking costs, and what it keeps of the full model's lift."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from benchmarks.models.frontier import (
    LISTS,
    TIMED,
    Lists,
    Point,
    chosen,
    frontier,
    opened_ways,
    predicting,
    recommend_lists,
    search_lists,
    ways,
)
from benchmarks.result_lines import Line, sampled
from indexing.bundle.bundle import Bundle
from retrieval.encoders.quiet import quiet_libraries
from retrieval.errors import BadBundle
from retrieval.text.rendering import item_texts
from serving.answering.release_state import ReleaseState
from serving.cli.options import settings_of
from serving.cli.show import say
from serving.jobs.train_one import index_ids, recorded_settings
from serving.shop import Shop

FEW, FEW_TIMED, FEW_FITTED = 12, 3, 20  # shortlists, timed ones, and those that blends are fitted on, in a hurry
FEW_PLACES = 20  # that are reranked then


@dataclass(frozen=True)
class FrontierRun:
    """A bundle with a ranker, and the data set that it was made of. `depth` places of so many `lists` are reranked, or
    fewer of FEW if `quick`. Of the ways those whose name holds a word of `only`, if it has any, beside the first."""

    bundle: Path
    data: Path
    depth: int
    kept: Sequence[int]
    fold: str
    device: str = "auto"
    quick: bool = False
    only: Sequence[str] = ()
    lists: int = LISTS

    def lines(self) -> Iterator[Line]:
        """Every way on shortlists of one fold, of recommendation and of search. Raises BadData and BadBundle."""
        bundle = Bundle.open(self.bundle)
        release = bundle.current()
        if release.ranker is None:
            raise BadBundle(
                f"{self.bundle}: its live release has no ranker; run: shortlist train ranker {self.bundle} --data DATA"
            )
        folder = bundle.path_of("ranker", release.ranker)
        depth = min(self.depth, FEW_PLACES) if self.quick else self.depth
        wanted = chosen(ways(folder, depth=depth, kept=self.kept, device=self.device), self.only)
        with quiet_libraries():
            settings = settings_of(base=recorded_settings(bundle))
            shop = Shop.open(self.data, settings.data, now=datetime.now(UTC), like=index_ids(bundle, release))
            opened = ReleaseState.of_release(bundle, release, device=self.device)
            stages = opened_ways(
                bundle,
                release,
                opened.stages,
                shop,
                wanted,
                remove_seen=opened.remove_seen,
                device=self.device,
                most=FEW_FITTED if self.quick else None,
                say=say,
            )
            theirs = predicting(folder, item_texts(shop.data.items), depth, self.device)
            for lists in self._lists(opened, shop):
                points = frontier(wanted, stages, lists, theirs=theirs, timed=FEW_TIMED if self.quick else TIMED)
                yield from (_line(lists.task, point) for point in points)

    def _lists(self, opened: ReleaseState, shop: Shop) -> Iterator[Lists]:
        most = FEW if self.quick else self.lists
        if shop.events is not None:
            yield recommend_lists(opened.stages, shop, self.fold, remove_seen=opened.remove_seen, most=most)
        if shop.judgements is not None:
            yield search_lists(opened.stages, shop, self.fold, most=most)


def _line(task: str, point: Point) -> Line:
    line = sampled("frontier", {"task": task, "way": point.name}, "ms", point.milliseconds)
    kept = None if math.isnan(point.kept) else point.kept
    lift = {"lift": point.lift.mean, "low": point.lift.low, "high": point.lift.high, "kept": kept}
    faster = None if math.isnan(point.faster) else point.faster
    return replace(line, summary={**line.summary, "times faster": faster, **lift, "lists": float(point.lift.n)})
