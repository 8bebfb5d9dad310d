"""A whole run: check, train towers, build the index, fuse sources, mine, train the ranker, gate, evaluate, publish."""

from __future__ import annotations

import json
import os
import platform
import shutil
import time
from collections.abc import Callable, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from indexing.bundle.atomic_files import writing_to
from indexing.bundle.bundle import Bundle
from indexing.bundle.manifest import JsonMap
from indexing.bundle.releases import Release, rerank_gates
from indexing.version.build import WORK
from ranking.strategies import LATE, strategy_named
from retrieval.encoders.pretrained import pretrained_source
from retrieval.encoders.runtime import RuntimeOptions
from retrieval.errors import BadConfig, BadData
from retrieval.extras import require_extra
from retrieval.fingerprint import fingerprint
from retrieval.settings import Budget
from retrieval.towers.serving import TEXT
from serving.answering.release_settings import OrderName, with_settings
from serving.answering.release_state import ReleaseState
from serving.answering.rerank_steps import planned_steps, recorded_steps
from serving.evaluation.evaluator import Measurement, Untuned
from serving.evaluation.figures import Example, Figures, as_object
from serving.evaluation.gate_report import decided
from serving.evaluation.slices import noisy_queries
from serving.evaluation.untuned_encoder import keep_untuned, pretrained_name, untuned_text
from serving.fitting.provable import gate_can_tell
from serving.jobs.bundle_parts import Assembly, plain
from serving.jobs.work_folder import REJECTED, Work, keep_rejected, removed_unless_begun
from serving.live.export import exported
from serving.live.opening import REDIS, open_store
from serving.reporting.report import Report, render_report, written
from serving.settings import RunSettings
from serving.shop import Shop
from serving.texts.catalogue import retold, text

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ranking.training.feature_ranker.choose import Chosen
    from retrieval.data.recorded import RecordedEvents
    from retrieval.training.towers import TextPart
    from serving.fitting.ranker_data import Training

SAMPLE_MARK = "sample-shop"


@dataclass(frozen=True)
class RunResult:
    """What a run left: the live release, the evaluation object, the report's path and how long each stage took."""

    release: Release
    evaluation: Figures
    report: Path
    seconds: Mapping[str, float]


@dataclass
class Pipeline:
    """One run over one data set into one bundle. Every method is a stage of `run`, and can be called by itself."""

    data_folder: Path
    out: Path
    config: RunSettings = field(default_factory=RunSettings)
    budget: Budget = "default"
    device: str = "auto"
    say: Callable[[str], None] = print
    now: Callable[[], datetime] = lambda: datetime.now(UTC)
    seconds: dict[str, float] = field(default_factory=dict)
    _open_now: ReleaseState | None = field(default=None, init=False, repr=False)
    events_from: str | None = (
        None  # a store of recorded events to read beside the data set; None: only who is forgotten
    )
    scratch: Path | None = None  # for what is only worked on; none: a folder in the bundle, from which a run goes on

    def run(self) -> RunResult:
        """All stages. What its gate does not let on is published switched off; the figures say what it would have
        done."""
        with self.writing() as (shop, bundle):
            draft = self.train_retriever(shop, bundle)
            draft, chosen = self.fit_second_stage(shop, bundle, draft)
            if gate_can_tell(shop, self.config.ranking, say=self.say):
                draft = self.train_ranker(shop, bundle, draft)
            draft = self.decide(shop, bundle, draft)
            draft = self.refit(shop, bundle, draft, chosen)
            return self.finish(shop, bundle, draft)

    @contextmanager
    def writing(
        self, *, like: Sequence[str] | None = None, catalogue_alone: bool = False
    ) -> Iterator[tuple[Shop, Bundle]]:
        """The shop and the bundle to write to, its writer lock held.

        What was worked on is removed at a good end. After an error it stays, so that a training can go on; a new bundle
        in which no training has begun is removed.
        """
        require_extra("train", "this job")
        with TemporaryDirectory() as scratch, removed_unless_begun(self.out):
            rejected = Path(scratch) / REJECTED
            shop = self.open_shop(like=like, catalogue_alone=catalogue_alone, rejected=rejected)
            bundle = Bundle.create(self.out)
            with bundle.lock(), writing_to(self.out):
                keep_rejected(rejected, self.out)
                yield shop, bundle
        shutil.rmtree(self.out / WORK, ignore_errors=True)

    def open_shop(
        self, *, like: Sequence[str] | None = None, catalogue_alone: bool = False, rejected: Path | None = None
    ) -> Shop:
        """Reads, validates and splits the data set; see `Shop.open`. What was set aside is written to `rejected`."""
        with self._timed("read"):
            shop = Shop.open(
                self.data_folder,
                self.config.data,
                now=self.now(),
                rejected=rejected,
                like=like,
                catalogue_alone=catalogue_alone,
                recorded=self._recorded(),
            )
        for line in [*shop.data.report.lines(), *shop.split_lines()]:
            self.say(line)
        return shop

    def _recorded(self) -> RecordedEvents | None:
        """The store's events, and who is forgotten. Raises BadConfig for a file that is not there."""
        given = self.events_from
        store = open_store(given, self.out)
        found = exported(store, events=given is not None)
        if given is not None and found is None and not given.startswith(REDIS) and not Path(given).is_dir():
            raise BadConfig(
                f"--events-from: there are no recorded events at {given}; name a bundle, or the file that engines keep "
                "events in"
            )
        return found

    def finish(self, shop: Shop, bundle: Bundle, draft: Release) -> RunResult:
        """Evaluates and publishes the draft, and writes the report; published last, for the disk may be full."""
        release, evaluation, examples = self.evaluate(shop, bundle, draft)
        with self._timed("publish"), self.reporting(shop, release, evaluation, examples) as report:
            keep_untuned(shop, bundle, self.config, work=self._work)
            live = bundle.publish(release)
        return RunResult(live, evaluation, report, self.seconds)

    def train_retriever(self, shop: Shop, bundle: Bundle) -> Release:
        """Towers, index and shoppers, as a release that is not yet recorded."""
        from retrieval.training.towers import TowerData, train_towers
        from serving.fitting.distillation import at_hand
        from serving.fitting.train_ranker import teacher_of

        at_hand(self.config.ranking)  # before hours of training, not after
        source, work = TowerData(shop.data, shop.events, shop.judgements), self.work_on(shop)
        with self._timed("train towers"):
            trained = train_towers(
                source,
                work.fresh("towers"),
                config=self.config.retrieval,
                work=work.checkpoints("towers"),
                teacher=teacher_of(self.config, self.device),
                **self._training,
            )
        with self._timed("build index"):
            draft = self.assembly(bundle).retriever(shop, trained, f"run --budget {self.budget}", say=self.say)
        with self._timed("fuse sources"):
            fusions = self._fusions(shop, self._opened(bundle, draft))
        return with_settings(replace(draft, figures=plain(trained.figures)), fusion=fusions)

    def fit_second_stage(
        self, shop: Shop, bundle: Bundle, draft: Release
    ) -> tuple[Release, Mapping[OrderName, Chosen]]:
        """The draft with rankers over features and step 1 of its gates, and those rankers that it lets on, as they were
        chosen."""
        from serving.jobs.second_stage_job import fitted_second_stage

        ranking = self.config.ranking
        if ranking.order == "fused":
            return draft, {}
        opened, seed = self._opened(bundle, draft), self.config.retrieval.seed
        measured = self._measurement(opened, shop)
        with self._timed("second stage"):
            return fitted_second_stage(bundle, draft, measured, ranking, seed=seed, say=self.say)

    def refit(self, shop: Shop, bundle: Bundle, draft: Release, chosen: Mapping[OrderName, Chosen]) -> Release:
        """The draft with fusion and rankers over features fitted again, as they were gated, on every fold up to the
        newest before test."""
        from serving.jobs.second_stage_job import refitted_second_stage

        if not chosen:
            return draft
        open_draft, seed = partial(self._opened, bundle), self.config.retrieval.seed
        with self._timed("second stage on all folds"):
            draft = refitted_second_stage(bundle, draft, open_draft, shop, chosen, seed=seed, say=self.say)
        return self.assembly(bundle).named(draft)

    def train_ranker(self, shop: Shop, bundle: Bundle, draft: Release) -> Release:
        """The draft with a ranker, where there is anything to learn from."""
        from serving.fitting.distillation import at_hand
        from serving.fitting.fit_blend import fitted_steps
        from serving.fitting.train_ranker import fit_late, fit_ranker, fit_shallow, ranker_data
        from serving.jobs.crossfit import cross_fitted

        if not self.config.ranking.enabled:
            return draft
        at_hand(self.config.ranking)
        opened, work = self._opened(bundle, draft), self.work_on(shop)
        with self._timed("mine pairs"):
            data = ranker_data(
                shop,
                opened,
                self.config.ranking,
                seed=self.config.retrieval.seed,
                device=self.device,
                cross_fit=lambda: cross_fitted(
                    shop,
                    self.assembly(bundle),
                    draft,
                    text=self._untuned_text(shop, bundle),
                    work=work,
                    **self._training,
                ),
                say=self.say,
            )
        if not len(data.train):
            self.say("ranker: left out, for retrieval found none of the positives of its training fold")
            return draft
        with self._timed("train ranker"):
            start = self._ranker_start(shop, bundle, draft)
            folder, rest = work.fresh("ranker"), work.checkpoints("ranker")
            fit_ranker(data, self.config.ranking, start=start, out=folder, work=rest, **self._training)
        assembly, steps = self.assembly(bundle), planned_steps(self.config.ranking)
        quick = strategy_named(self.config.ranking.strategy).distilled
        if quick is not None:
            distilled = fit_late if quick == LATE else fit_shallow
            with self._timed("distil ranker"):
                distilled(data, self.config.ranking, folder, work=work.checkpoints(quick), **self._training)
        draft = with_settings(replace(draft, ranker=assembly.add_ranker(folder, steps)), rerank=steps)
        with self._timed("tokenise items"):
            draft = assembly.with_tokens(shop, draft)
        with self._timed("blend"):
            opened = self._opened(bundle, draft)
            for step in opened.steps:
                self.say(f"{step.model} model, {step.scorer.placement}")
            blended = fitted_steps(opened, shop, say=self.say)
        platt_scaling = {task: found.as_json() for task, found in blended.platt_scaling.items()}
        figures = {**draft.figures, **plain({"platt_scaling": platt_scaling})}
        return assembly.named(with_settings(replace(draft, figures=figures), rerank=recorded_steps(blended.steps)))

    def _ranker_start(self, shop: Shop, bundle: Bundle, draft: Release) -> str:
        """What the cross-encoder starts from: the model that is configured, else the towers' own tuned text encoder."""
        tuned = bundle.path_of("towers", draft.towers) / TEXT
        if self.config.ranking.model is None and (tuned / "config.json").exists():
            return str(tuned)
        return pretrained_source(self.config.ranking.model or pretrained_name(shop, self.config))

    def decide(self, shop: Shop, bundle: Bundle, draft: Release) -> Release:
        """The draft with the gates of its cross-encoder."""
        if draft.ranker is None:
            return draft
        measured = self._measurement(self._opened(bundle, draft), shop)
        with self._timed("gate of the cross-encoder"):
            ranking, before = self.config.ranking, recorded_gates(draft)
            gates = decided(measured, ranking.gate, before, min_users=ranking.min_gate, say=self.say)
        return replace(draft, gates=plain(gates))

    def evaluate(self, shop: Shop, bundle: Bundle, draft: Release) -> tuple[Release, Figures, list[Example]]:
        """The release with its figures, the evaluation object and some real requests."""
        measured = self._measurement(self._opened(bundle, draft), shop)
        untuned, gates = self.untuned(shop, bundle), recorded_gates(draft)
        with self._timed("evaluate"):
            evaluation, examples = measured.evaluate(untuned, gates, draft.id, self.config.evaluation.examples)
        figures = {**draft.figures, "evaluation": evaluation["tasks"]}
        return replace(draft, figures=plain(figures)), evaluation, examples

    def evaluate_live(self, shop: Shop, bundle: Bundle) -> tuple[Figures, Path]:
        """The evaluation of the live release, as it is, and its report. Takes no lock."""
        require_extra("train", "an evaluation")
        release = bundle.current()
        with TemporaryDirectory() as scratch, writing_to(Path(scratch)):
            aside = replace(self, scratch=Path(scratch))
            measured = aside._measurement(aside._opened(bundle, release), shop)
            untuned = aside.untuned(shop, bundle)
            gates = recorded_gates(release)
            with aside._timed("evaluate"):
                evaluation, examples = measured.evaluate(untuned, gates, release.id, self.config.evaluation.examples)
        with self.reporting(shop, release, evaluation, examples) as report:
            return evaluation, report

    @contextmanager
    def reporting(
        self, shop: Shop, release: Release, evaluation: Figures, examples: Sequence[Example]
    ) -> Iterator[Path]:
        """`report.html` and `evaluation.json` beside the bundle's folders; see `written`."""
        path = self.out / "report.html"
        language = self.config.evaluation.language
        facts = {"items": f"{shop.data.n_items:,}", "shoppers": f"{shop.data.n_users:,}"}
        if shop.data.events is not None:
            facts["events"] = f"{len(shop.data.events):,}"
        if shop.data.judgements is not None:
            facts["judgements"] = f"{len(shop.data.judgements.query):,}"
        machine = text("fact.cores", language, machine=platform.machine(), n=os.cpu_count())
        environment = {text("fact.machine", language): machine, "python": platform.python_version()}
        report = Report(
            title=self.data_folder.name,
            created=self.now(),
            evaluation=evaluation,
            facts={text(f"fact.{name}", language): value for name, value in facts.items()},
            split=" ".join(retold(line, language) for line in shop.split_lines()),
            folds=shop.fold_sizes(),
            examples=examples,
            environment=environment | dict(release.libraries),
            generated=self.data_folder.name == SAMPLE_MARK,
            platt_scaling=as_object(release.figures.get("platt_scaling", {})),
            language=language,
        )
        texts = {self.out / "evaluation.json": json.dumps(evaluation, indent=1), path: render_report(report)}
        with writing_to(self.out), written(texts):
            yield path

    def assembly(self, bundle: Bundle) -> Assembly:
        """What adds parts to a bundle under this run's settings."""
        return Assembly(bundle, self.config, self.device, self.now)

    def _fusions(self, shop: Shop, opened: ReleaseState) -> JsonMap:
        """How candidate sources come together, by task."""
        from serving.fitting.fit_fusion import fit_fusions

        fusions = dict(fit_fusions(opened, shop))
        for task, fusion in fusions.items():
            self.say(f"fusion, {task}: {fusion}")
        return plain({task: fusion.as_json() for task, fusion in fusions.items()})

    def untuned(self, shop: Shop, bundle: Bundle) -> Untuned:
        """The untuned encoder's vectors, a baseline of every evaluation."""
        with self._timed("untuned encoder"):
            part = self._untuned_text(shop, bundle)
            texts, noisy = [], []
            if shop.judgements is not None:
                queries = shop.judgements.folds["test"]
                texts, noisy = shop.query_texts(queries), noisy_queries(shop, queries)
            return Untuned(part.vectors, part.encoder.encode(texts, "query"), part.encoder.encode(noisy, "query"))

    def _untuned_text(self, shop: Shop, bundle: Bundle) -> TextPart:
        return untuned_text(shop, bundle, self.config, device=self.device, work=self._work)

    def _measurement(self, opened: ReleaseState, shop: Shop) -> Measurement:
        ids = opened.version.ids.to_pylist()
        if ids != list(shop.data.item_ids):
            raise BadData(f"{self.data_folder}: its items are not in the order of the index; open the shop like it")
        return Measurement(opened, shop, self.config.evaluation.rerank_sample)

    def _opened(self, bundle: Bundle, release: Release) -> ReleaseState:
        """The release opened; what the one that was opened before has of it is shared."""
        options = RuntimeOptions(device=self.device)
        self._open_now = ReleaseState.of_release(bundle, release, options, like=self._open_now)
        return self._open_now

    @property
    def _training(self) -> Training:
        return {"budget": self.budget, "device": self.device, "say": self.say}

    @property
    def _work(self) -> Path:
        path = self.scratch or self.out / WORK
        path.mkdir(parents=True, exist_ok=True)
        return path

    def work_on(self, shop: Shop) -> Work:
        """Where models are made; a training goes on there if data, settings and budget are the same."""
        return Work(self._work, fingerprint(shop.data.fingerprint, self.config.model_dump(mode="json"), self.budget))

    @contextmanager
    def _timed(self, stage: str) -> Iterator[None]:
        begun = time.monotonic()
        self.say(f"-- {stage}")
        yield
        self.seconds[stage] = round(self.seconds.get(stage, 0.0) + time.monotonic() - begun, 1)


def recorded_gates(release: Release) -> dict[str, Figures]:
    """The gates of a release by task."""
    found: dict[str, Figures] = json.loads(json.dumps(rerank_gates(release)))
    return found
