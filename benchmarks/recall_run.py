"""A whole measurement of quality: of a bundle's live release, or of the baselines alone."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.recall import Quality, diversity_lines, funnel_lines
from benchmarks.results import Line
from benchmarks.tasks import event_side, recommend_tasks
from indexing.store import Bundle
from retrieval.baselines import event_baselines
from retrieval.training_progress import quiet_libraries
from serving.engine import Engine
from serving.evaluate import Figures
from serving.jobs import index_ids, recorded_settings
from serving.measure import Measurement
from serving.options import settings_of
from serving.pipeline import Pipeline
from serving.shop import Shop
from serving.show import say

FEW = 10  # requests that reranking is measured on in a hurry
RESAMPLES, FEW_RESAMPLES = 4_000, 400


@dataclass(frozen=True)
class RecallRun:
    """A data set, and a bundle made of it if there is one."""

    data: Path
    bundle: Path | None
    device: str = "auto"
    quick: bool = False
    quality_alone: bool = False  # neither what is beyond accuracy nor the funnel

    def release_id(self) -> str | None:
        """The live release; None without a bundle."""
        return None if self.bundle is None else Bundle.open(self.bundle).current().id

    def lines(self) -> Iterator[Line]:
        """See `recall.Quality`, and of a bundle the funnel. Raises BadData and BadBundle."""
        resamples = FEW_RESAMPLES if self.quick else RESAMPLES
        if self.bundle is None:
            shop = Shop.open(self.data, settings_of().data, now=datetime.now(UTC))
            events, split = event_side(shop)
            baselines = event_baselines(events, split.folds["test"], split, shop.data.n_items)
            yield from Quality(shop, recommend_tasks(shop, baselines), resamples).lines()
            return
        bundle = Bundle.open(self.bundle)
        with TemporaryDirectory() as scratch, quiet_libraries():
            pipeline = self._pipeline(bundle, Path(scratch))
            shop = pipeline.open_shop(like=index_ids(bundle, bundle.current()))
            measured, gates = self._measured(shop, pipeline.config.evaluation.rerank_sample)
            tasks = measured.tasks(None if self.quick else pipeline.untuned(shop, bundle), gates)
            yield from Quality(shop, tasks, resamples).lines()
            if not self.quality_alone:
                yield from diversity_lines(tasks, measured.stages)
                yield from funnel_lines(measured, tasks)

    def _measured(self, shop: Shop, sample: int) -> tuple[Measurement, dict[str, Figures]]:
        """The live release's stages over a shop opened like its index, and its gates."""
        assert self.bundle is not None
        engine = Engine.open(self.bundle, device=self.device)
        gates: dict[str, Figures] = json.loads(json.dumps(engine.release.gates))
        return Measurement(engine.stages, shop, engine.release.settings.get("seen") != "keep", sample), gates

    def _pipeline(self, bundle: Bundle, scratch: Path) -> Pipeline:
        options = {"rerank_sample": FEW} if self.quick else {}
        settings = settings_of(base=recorded_settings(bundle), options=options)
        return Pipeline(self.data, bundle.path, settings, device=self.device, say=say, scratch=scratch)
