"""`shortlist bench train`: examples a second and memory of each training loop, and its validation figures over time."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.ablation.subset import share_of
from benchmarks.environment import peak_memory
from benchmarks.result_lines import Line
from indexing.bundle.bundle import Bundle
from indexing.bundle.releases import Release
from retrieval.data.dataset import load
from retrieval.encoders.pretrained import pretrained_source
from retrieval.encoders.quiet import quiet_libraries
from retrieval.progress import LoopRecord, record_loops
from retrieval.settings import Budget
from retrieval.text.text_model import text_model_for
from serving.cli.show import say
from serving.internals import Engine, Pipeline, RunSettings, Shop, fit_ranker, ranker_data

QUICK = (
    "retrieval.text.examples=256", "retrieval.history.epochs=1", "ranking.training.examples=64",
    "ranking.training.valid_pairs=64", "ranking.cross_fit_below=0",
)  # fmt: skip
QUICK_SHARE = 0.05  # of the users


@dataclass(frozen=True)
class TrainingRun:
    """A data set, the share of its users to train on, the settings, and the budget of the training."""

    data: Path
    config: RunSettings = field(default_factory=RunSettings)
    budget: Budget = "default"
    device: str = "auto"
    share: float = 1.0

    def lines(self) -> Iterator[Line]:
        """Every loop that trains or embeds, and the time of everything; the trained models are thrown away."""
        limits = self.config.data
        loaded = load(self.data, max_bad=limits.max_bad, max_unknown=limits.max_unknown)
        shop = share_of(loaded, self.share, limits)
        with TemporaryDirectory() as scratch, quiet_libraries():
            bundle = Bundle.create(Path(scratch) / "bundle")
            pipeline = Pipeline(self.data, bundle.path, self.config, self.budget, self.device, say=say)
            begun = time.perf_counter()
            peak_memory()
            with record_loops(peak_memory) as loops:
                draft = pipeline.train_retriever(shop, bundle)
            retriever = time.perf_counter() - begun
            yield from loop_lines(loops)
            begun = time.perf_counter()
            with record_loops(peak_memory) as loops:
                self._ranker(shop, bundle, draft, Path(scratch))
            yield from loop_lines(loops)
            whole = {"retriever": retriever, "ranker": time.perf_counter() - begun}
            yield Line(measured="train, whole", labels={}, unit="s", summary={**whole, "both": sum(whole.values())})

    def _ranker(self, shop: Shop, bundle: Bundle, draft: Release, scratch: Path) -> None:
        """Trains a cross-encoder on what the towers propose, where they found anything to learn from."""
        state = Engine.of_release(bundle, draft, device=self.device).state
        ranking = self.config.ranking
        chosen = text_model_for(self.config.retrieval.text.model, shop.data.language)
        pairs = ranker_data(
            shop, state, ranking, seed=self.config.retrieval.seed,
            device=self.device, cross_fit=list, say=say,
        )  # fmt: skip
        if len(pairs.train):
            fit_ranker(
                pairs, ranking, start=pretrained_source(ranking.model or chosen.model),
                out=scratch / "ranker", work=scratch / "work", budget=self.budget, device=self.device, say=say,
            )  # fmt: skip


def loop_lines(loops: list[LoopRecord]) -> Iterator[Line]:
    """The rate and memory of each loop, and its validation figures by the seconds since the loop began."""
    for loop in loops:
        if not loop.done or not loop.seconds:
            continue
        labels = {"part": loop.description, "counted": loop.unit}
        summary = {"per second": loop.done / loop.seconds, "done": float(loop.done), "seconds": loop.seconds}
        yield Line(measured="train", labels=labels, unit="per second", summary={**summary, **loop.memory})
        for name in dict.fromkeys(name for _, figures in loop.figures for name in figures):
            curve = {f"{seconds:.1f} s": figures[name] for seconds, figures in loop.figures if name in figures}
            if name not in ("loss", "learning_rate"):
                yield Line(
                    measured="train, validation", labels={**labels, "figure": name}, unit="figure", summary=curve
                )
