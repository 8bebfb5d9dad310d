"""A whole run: check, train towers, build the index, mine, train the ranker, gate, evaluate, publish."""

from __future__ import annotations

import getpass
import json
import os
import platform
import shutil
import time
from collections.abc import Callable, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from indexing.manifest import JsonMap
from indexing.rebuild import Built, build_version
from indexing.releases import Release, release_id
from indexing.store import Bundle
from indexing.version import IndexVersion
from ranking.cross_encoder import CrossEncoderScorer
from ranking.settings import Budget
from retrieval.encoder import TextEncoder
from retrieval.errors import BadData
from retrieval.fingerprint import fingerprint, folder_fingerprint
from retrieval.pretrained import pretrained_source
from retrieval.progress import ProgressMeter
from retrieval.text import item_texts
from retrieval.topk import Vectors
from retrieval.towers import Towers
from serving.engine import Engine
from serving.evaluate import Figures
from serving.measure import Measurement, Untuned
from serving.report import Example, Report, write_report
from serving.settings import RunConfig
from serving.shop import Shop
from serving.shoppers import write_shoppers

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from retrieval.train import TextPart
    from serving.ranker import PairSource

LIBRARIES = ("torch", "transformers", "sentence-transformers", "openvino", "numpy", "pyarrow", "shortlist")
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
    config: RunConfig = field(default_factory=RunConfig)
    budget: Budget = "default"
    device: str = "auto"
    say: Callable[[str], None] = print
    now: Callable[[], datetime] = lambda: datetime.now(UTC)
    seconds: dict[str, float] = field(default_factory=dict)

    def run(self) -> RunResult:
        """All stages. A reranker below the gate is published switched off; the figures say what it would have done."""
        shop, bundle = self.open_shop(), Bundle.create(self.out)
        with bundle.lock():
            draft = self.train_retriever(shop, bundle)
            draft = self.train_ranker(shop, bundle, draft)
            release, evaluation, examples = self.evaluate(shop, bundle, draft)
            with self._timed("publish"):
                live = bundle.publish(release)
        report = self.write_report(shop, live, evaluation, examples)
        shutil.rmtree(self._work, ignore_errors=True)
        return RunResult(live, evaluation, report, self.seconds)

    def open_shop(self) -> Shop:
        """Reads, validates and splits the data set; what was set aside lies beside the bundle's folders."""
        with self._timed("read"):
            self.out.mkdir(parents=True, exist_ok=True)
            shop = Shop.open(self.data_folder, self.config.data, now=self.now(), rejected=self.out / "rejected.parquet")
        for line in [*shop.data.report.lines(), *shop.split_lines()]:
            self.say(line)
        return shop

    def train_retriever(self, shop: Shop, bundle: Bundle) -> Release:
        """Towers, index and shoppers, as a release that is not yet recorded."""
        from retrieval.train import TowerData, train_towers

        source = TowerData(shop.data, shop.events, shop.judgements)
        with self._timed("train towers"):
            trained = train_towers(
                source,
                self._fresh("towers"),
                config=self.config.retrieval,
                budget=self.budget,
                device=self.device,
                work=self._work / "checkpoints",
                say=self.say,
            )
        with self._timed("build index"):
            draft = self._assemble(shop, bundle, trained.folder, trained.text_vectors)
        return replace(draft, figures=plain(trained.figures))

    def build_index(self, shop: Shop, bundle: Bundle, towers: str) -> Built:
        """A new index version of the shop's items under towers that the bundle holds; unchanged texts are reused."""
        opened = Towers.open(bundle.path_of("towers", towers), device=self.device, cache=self._runtime(bundle, towers))
        return self._index(shop, bundle, towers, opened, self._encode_with_progress(opened))

    def train_ranker(self, shop: Shop, bundle: Bundle, draft: Release) -> Release:
        """The draft with a ranker, where there is anything to learn from."""
        from serving.ranker import fit_ranker, ranker_data

        if not self.config.ranking.enabled:
            return draft
        engine = self._engine(bundle, draft)
        with self._timed("mine pairs"):
            data = ranker_data(
                shop,
                engine.stages,
                self.config.ranking,
                remove_seen=engine.remove_seen,
                seed=self.config.retrieval.seed,
                cross_fit=lambda: self._cross_fit(shop),
                say=self.say,
            )
        if not len(data.train):
            self.say("ranker: left out, for retrieval found none of the positives of its training fold")
            return draft
        with self._timed("train ranker"):
            folder = self._fresh("ranker")
            fit_ranker(
                data,
                self.config.ranking,
                start=pretrained_source(self.config.ranking.model or self.config.retrieval.text.model),
                out=folder,
                work=self._work / "checkpoints" / "ranker",
                budget=self.budget,
                device=self.device,
                say=self.say,
            )
        name = folder_fingerprint(folder)
        self._keep_graphs(bundle, name, lambda cache: CrossEncoderScorer.load(folder, device=self.device, cache=cache))
        bundle.add("ranker", name, folder)
        return self._named(replace(draft, ranker=name))

    def evaluate(self, shop: Shop, bundle: Bundle, draft: Release) -> tuple[Release, Figures, list[Example]]:
        """The release with its gates and figures, the evaluation object and some real requests."""
        measured = self._measurement(self._engine(bundle, draft), shop)
        with self._timed("gate"):
            gates = self._gates(measured)
        untuned = self._untuned(shop, bundle)
        with self._timed("evaluate"):
            evaluation, examples = measured.evaluate(untuned, gates, draft.id, self.config.evaluation.examples)
        figures = {**draft.figures, "evaluation": evaluation["tasks"]}
        return replace(draft, gates=plain(gates), figures=plain(figures)), evaluation, examples

    def evaluate_live(self, shop: Shop, bundle: Bundle) -> tuple[Figures, Path]:
        """The evaluation of the live release, as it is, and its report."""
        release = bundle.current()
        measured = self._measurement(self._engine(bundle, release), shop)
        untuned = self._untuned(shop, bundle)
        gates: dict[str, Figures] = json.loads(json.dumps(release.gates))
        with self._timed("evaluate"):
            evaluation, examples = measured.evaluate(untuned, gates, release.id, self.config.evaluation.examples)
        return evaluation, self.write_report(shop, release, evaluation, examples)

    def write_report(self, shop: Shop, release: Release, evaluation: Figures, examples: Sequence[Example]) -> Path:
        """`report.html` and `evaluation.json` beside the bundle's folders."""
        path = self.out / "report.html"
        (self.out / "evaluation.json").write_text(json.dumps(evaluation, indent=1), "utf-8")
        facts = {"items": f"{shop.data.n_items:,}", "shoppers": f"{shop.data.n_users:,}"}
        if shop.data.events is not None:
            facts["events"] = f"{len(shop.data.events):,}"
        if shop.data.judgements is not None:
            facts["judgements"] = f"{len(shop.data.judgements.query):,}"
        environment = {"machine": f"{platform.machine()}, {os.cpu_count()} cores", "python": platform.python_version()}
        report = Report(
            title=self.data_folder.name,
            created=self.now(),
            evaluation=evaluation,
            facts=facts,
            split=" ".join(shop.split_lines()),
            folds=shop.fold_sizes(),
            examples=examples,
            environment=environment | dict(release.libraries),
            generated=self.data_folder.name == SAMPLE_MARK,
        )
        write_report(report, path)
        return path

    def _assemble(self, shop: Shop, bundle: Bundle, folder: Path, text_vectors: Vectors) -> Release:
        """Towers, index and shoppers as parts of a bundle, and a draft release that names them."""
        name = folder_fingerprint(folder)
        self._keep_graphs(bundle, name, lambda cache: Towers.open(folder, device=self.device, cache=cache))
        bundle.add("towers", name, folder)
        opened = Towers.open(bundle.path_of("towers", name), device=self.device, cache=self._runtime(bundle, name))
        row_of = {text: row for row, text in enumerate(item_texts(shop.data.items))}
        built = self._index(shop, bundle, name, opened, lambda texts: text_vectors[[row_of[text] for text in texts]])
        shoppers = self._shoppers(shop, bundle)
        draft = Release(
            id="draft",
            created=self.now().isoformat(timespec="seconds"),
            towers=name,
            index=built.name,
            shoppers=shoppers,
            settings=plain(self._settings(shop)),
            split=plain({"lines": shop.split_lines(), "folds": shop.fold_sizes()}),
            who=getpass.getuser(),
            why=f"run --budget {self.budget}",
            libraries={library: version(library) for library in LIBRARIES},
        )
        return self._named(draft)

    def _index(
        self, shop: Shop, bundle: Bundle, towers: str, opened: Towers, encode: Callable[[Sequence[str]], Vectors]
    ) -> Built:
        return build_version(
            bundle,
            items=shop.data.items,
            texts=item_texts(shop.data.items),
            encode=encode,
            item_vectors=opened.item.vectors,
            towers=towers,
            text_encoder=opened.encoder.fingerprint,
            factory=self.config.index.factory,
            recall_target=self.config.index.recall,
            previous=self._previous(bundle),
        )

    def _previous(self, bundle: Bundle) -> IndexVersion | None:
        if bundle.current_id() is None:
            return None
        return IndexVersion.open(bundle.path_of("index", bundle.current().index))

    def _shoppers(self, shop: Shop, bundle: Bundle) -> str | None:
        if shop.data.events is None or shop.events is None:
            return None
        with bundle.stage("shoppers") as folder:
            counted = shop.data.events.is_kind(shop.target_events)
            write_shoppers(folder, shop.data, counted)
            name = fingerprint(shop.data.fingerprint, shop.target_events)
            bundle.add("shoppers", name, folder)
        return name

    def _settings(self, shop: Shop) -> dict[str, object]:
        """What the engine follows, and the whole tree that made the release."""
        events = shop.target_events
        return {
            "seen": "keep" if shop.shoppers_buy_again() else "remove",
            "target": events[0] if events else "",
            "targets": list(events),
            "titles": self.config.ranking.titles,
            "depth": self.config.ranking.depth,
            "config": self.config.model_dump(mode="json"),
        }

    def _cross_fit(self, shop: Shop) -> list[PairSource]:
        """Two towers over the untuned text part, each trained on half of the shoppers, with the last training requests
        of the other half."""
        from retrieval.train import TowerData, train_towers
        from serving.crossfit import halves, last_training_requests
        from serving.ranker import PairSource

        text, sources = self._untuned_text(shop), []
        for number, half in enumerate(halves(shop)):
            scratch = Bundle.create(self._work / f"fold-{number}")
            trained = train_towers(
                TowerData(shop.data, shop.events, None, half),
                self._fresh(f"towers-{number}"),
                config=self.config.retrieval,
                budget=self.budget,
                device=self.device,
                work=self._work / "checkpoints" / f"fold-{number}",
                text=text,
                say=self.say,
            )
            draft = self._assemble(shop, scratch, trained.folder, trained.text_vectors)
            sources.append(PairSource(self._engine(scratch, draft).stages, last_training_requests(shop, ~half)))
        return sources

    def _untuned_text(self, shop: Shop) -> TextPart:
        """The pretrained encoder over the catalogue, in sentence-transformers' layout."""
        from retrieval.encoder import open_sentence_transformer
        from retrieval.train import TextPart, embed_catalogue

        folder = self._work / "untuned"
        if not folder.exists():
            model = open_sentence_transformer(pretrained_source(self.config.retrieval.text.model))
            model.save(str(folder), create_model_card=False)
        kept = self._work / f"untuned-{shop.data.fingerprint}.npy"
        if kept.exists():
            return TextPart(folder, TextEncoder.load(folder, device=self.device), np.load(kept))
        part = embed_catalogue(shop.data, folder, self.config.retrieval, self.device)
        np.save(kept, part.vectors)
        return part

    def _untuned(self, shop: Shop, bundle: Bundle) -> Untuned:
        """The untuned encoder's vectors, a baseline of every evaluation; the items' are kept with the derived files."""
        with self._timed("untuned encoder"):
            part = self._untuned_text(shop)
            texts = [] if shop.judgements is None else shop.query_texts(shop.judgements.folds["test"])
            return Untuned(part.vectors, part.encoder.encode(texts, "query"))

    def _gates(self, measured: Measurement) -> dict[str, Figures]:
        found: dict[str, Figures] = {}
        for task, verdict in (("recommend", measured.gate_recommend()), ("search", measured.gate_search())):
            if verdict is not None:
                on = verdict.passes(self.config.ranking.gate)
                found[task] = {**verdict.as_json(), "required": self.config.ranking.gate, "on": on}
                self.say(
                    f"gate, {task}: {verdict.verdict} (nDCG@10 {verdict.mean:+.4f}, 95 % {verdict.low:+.4f} to "
                    f"{verdict.high:+.4f}, n {verdict.n:,}); the reranker is {'on' if on else 'off'}"
                )
        return found

    def _measurement(self, engine: Engine, shop: Shop) -> Measurement:
        ids = engine.stages.version.ids.to_pylist()
        if ids != list(shop.data.item_ids):
            raise BadData(
                f"{self.data_folder}: its items are not those of the bundle's index; run: shortlist index build "
                f"{self.out} --data {self.data_folder}"
            )
        return Measurement(engine.stages, shop, engine.remove_seen, self.config.evaluation.rerank_sample)

    def _engine(self, bundle: Bundle, release: Release) -> Engine:
        return Engine.of_release(bundle, release, device=self.device)

    def _encode_with_progress(self, opened: Towers) -> Callable[[Sequence[str]], Vectors]:
        def encode(texts: Sequence[str]) -> Vectors:
            meter = ProgressMeter(len(texts), "embedding items", unit="items")
            vectors = opened.encode_items(texts, done=meter.advance)
            meter.close()
            return vectors

        return encode

    def _named(self, draft: Release) -> Release:
        return replace(draft, id=release_id(draft.created, draft.towers, draft.index, draft.ranker, draft.shoppers))

    def _keep_graphs(self, bundle: Bundle, name: str, open_with: Callable[[Path], object]) -> None:
        """Derives the OpenVINO graphs once, so that serving never needs torch."""
        with bundle.stage("runtime") as folder:
            open_with(folder)
            bundle.keep_runtime(name, folder)

    def _runtime(self, bundle: Bundle, name: str) -> Path:
        return bundle.path / "runtime" / name

    @property
    def _work(self) -> Path:
        path = self.out / "work"
        path.mkdir(parents=True, exist_ok=True)
        return path

    def _fresh(self, name: str) -> Path:
        """An empty folder for a model that is being made; checkpoints lie elsewhere."""
        path = self._work / name
        shutil.rmtree(path, ignore_errors=True)
        path.mkdir(parents=True)
        return path

    @contextmanager
    def _timed(self, stage: str) -> Iterator[None]:
        begun = time.monotonic()
        self.say(f"-- {stage}")
        yield
        self.seconds[stage] = round(self.seconds.get(stage, 0.0) + time.monotonic() - begun, 1)


def plain(value: Mapping[str, object]) -> JsonMap:
    """What JSON makes of it."""
    found: JsonMap = json.loads(json.dumps(value))
    return found
