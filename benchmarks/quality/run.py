"""`shortlist bench recall`: the quality of a bundle's live release, or of the baselines alone."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.quality.beyond_accuracy import diversity_lines
from benchmarks.quality.diversity import TIMED, DiversityCost
from benchmarks.quality.recall import Quality, funnel_lines
from benchmarks.quality.slices import query_slices
from benchmarks.quality.tasks import ANSWERED, events_and_split, recommend_tasks, search_task
from benchmarks.result_lines import Line
from indexing.bundle.bundle import Bundle
from retrieval.encoders.quiet import quiet_libraries
from retrieval.metrics.baselines import event_baselines
from retrieval.text.rendering import item_texts
from serving.cli.options import settings_of
from serving.cli.show import say
from serving.internals import Engine, MeasuredTask, Measurement, Pipeline, Shop, index_ids, recorded_settings

FEW = 10  # requests that a quick run measures reranking on, and the time of making answers diverse
RESAMPLES, FEW_RESAMPLES = 4_000, 400


@dataclass(frozen=True)
class RecallRun:
    """A data set, and a bundle made of it if there is one."""

    data: Path
    bundle: Path | None
    device: str = "auto"
    quick: bool = False
    quality_alone: bool = False  # without slices, beyond-accuracy figures and the funnel

    def release_id(self) -> str | None:
        """The live release; None without a bundle."""
        return None if self.bundle is None else Bundle.open(self.bundle).current().id

    def lines(self) -> Iterator[Line]:
        """The lines of `recall.Quality`, and for a bundle the funnel. Raises BadData and BadBundle."""
        resamples = FEW_RESAMPLES if self.quick else RESAMPLES
        if self.bundle is None:
            shop = Shop.open(self.data, settings_of().data, now=datetime.now(UTC))
            yield from self._lines_of(Quality(shop, _with_query_slices(shop, _baselines(shop)), resamples))
            return
        bundle = Bundle.open(self.bundle)
        with TemporaryDirectory() as scratch, quiet_libraries():
            pipeline = self._pipeline(bundle, Path(scratch))
            shop = pipeline.open_shop(like=index_ids(bundle, bundle.current()))
            measured = Measurement(
                Engine.open(self.bundle, device=self.device, auto_reload=False).state,
                shop,
                pipeline.config.evaluation.rerank_sample,
            )
            untuned = None if self.quick else pipeline.untuned(shop, bundle)
            whole = not self.quality_alone
            tasks = measured.tasks(untuned, ANSWERED if whole else 0, noisy_reranked=whole)
            tasks = _with_query_slices(shop, tasks)
            yield from self._lines_of(Quality(shop, tasks, resamples))
            if not self.quality_alone:
                yield from diversity_lines(tasks, measured.state)
                yield from DiversityCost(measured, FEW if self.quick else TIMED).lines()
                yield from funnel_lines(measured, tasks)

    def _lines_of(self, quality: Quality) -> Iterator[Line]:
        return quality.stages() if self.quality_alone else quality.lines()

    def _pipeline(self, bundle: Bundle, scratch: Path) -> Pipeline:
        options = {"rerank_sample": FEW} if self.quick else {}
        settings = settings_of(base=recorded_settings(bundle), options=options)
        return Pipeline(self.data, bundle.path, settings, device=self.device, say=say, scratch=scratch)


def _baselines(shop: Shop) -> dict[str, MeasuredTask]:
    """The baselines that need no model, for every task that the data set has."""
    found: dict[str, MeasuredTask] = {}
    if shop.events is not None:
        events, split = events_and_split(shop)
        found = recommend_tasks(shop, event_baselines(events, split.folds["test"], split, shop.data.n_items))
    return found if shop.judgements is None else {**found, "search": search_task(shop)}


def _with_query_slices(shop: Shop, tasks: dict[str, MeasuredTask]) -> dict[str, MeasuredTask]:
    """The same tasks, where search has slices by query as well."""
    if shop.judgements is None:
        return tasks
    texts, search = shop.query_texts(shop.judgements.folds["test"]), tasks["search"]
    own = query_slices(texts, item_texts(shop.data.items), search.targets, shop.analyzer)
    return {**tasks, "search": replace(search, slices={**search.slices, **own})}
