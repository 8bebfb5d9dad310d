"""The parts of a release out of a shop and model folders: towers, index, shoppers, and the draft that names them."""

from __future__ import annotations

import getpass
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from indexing.bundle.bundle import Bundle
from indexing.bundle.manifest import JsonMap
from indexing.bundle.prune import discard
from indexing.bundle.releases import Release, release_id
from indexing.version.build import Built, ItemVectors, build_version, with_columns
from indexing.version.embedding_cache import TextSource
from indexing.version.hash_index import hash_keys
from indexing.version.index_version import IndexVersion
from indexing.version.item_columns import ItemColumn
from ranking.models.item_tokens import ItemTokenColumn
from ranking.models.late_interaction import LateColumn, LateScorer
from ranking.models.pair_tokens import PairTokenizer
from ranking.strategies import LATE
from retrieval.encoders.runtime import RuntimeOptions
from retrieval.extras import installed_versions
from retrieval.fingerprint import array_sha256, fingerprint, folder_fingerprint
from retrieval.progress import ProgressMeter
from retrieval.text.analysis import Analyzer
from retrieval.text.rendering import ItemTexts, field_markers_fingerprint
from retrieval.topk import Vectors
from retrieval.towers.serving import Towers, towers_fingerprint
from serving.answering.release_settings import EventsRead, ReleaseSettings, StepSettings
from serving.answering.rerank_steps import cpu_precisions, open_model, planned_steps
from serving.answering.source_registry import write_words
from serving.answering.user_store import TOGETHERNESS, write_users
from serving.jobs.canaries import canaries_of, write_canaries
from serving.jobs.job_log import JobLog
from serving.settings import RunSettings
from serving.shop import Shop

if TYPE_CHECKING:
    from retrieval.training.towers import TrainedTowers

LIBRARIES = ("torch", "transformers", "sentence-transformers", "openvino", "numpy", "pyarrow", "shortlist")


@dataclass(frozen=True)
class Assembly:
    """Adds parts to one bundle, whose writer lock the caller holds."""

    bundle: Bundle
    config: RunSettings
    device: str
    now: Callable[[], datetime]

    def add_towers(self, folder: Path) -> Towers:
        """Towers from a folder as a part of the bundle, their graphs derived, opened from there."""
        name = towers_fingerprint(folder)
        self.bundle.add("towers", name, folder)
        self._keep_graphs(name, lambda cache: self._opened(self.bundle.path_of("towers", name), cache, "cpu"))
        return self.towers(name)

    def towers(self, name: str) -> Towers:
        """Towers that the bundle holds."""
        return self._opened(self.bundle.path_of("towers", name), self.bundle.path / "runtime" / name, self.device)

    def _opened(self, folder: Path, cache: Path, device: str) -> Towers:
        return Towers.open(folder, device=device, precision=self.config.retrieval.precision, cache=cache)

    def add_ranker(self, folder: Path, steps: Sequence[StepSettings]) -> str:
        """A ranker from a folder as a part of the bundle, the graphs of the steps' models derived, those that another
        machine than this one takes as well."""
        name = folder_fingerprint(folder)
        options = [
            (step, RuntimeOptions(device="cpu", precision=precision))
            for step in steps
            for precision in cpu_precisions(step, folder)
        ]
        self._keep_graphs(
            name, lambda cache: [open_model(step, folder, cache=cache, options=one) for step, one in options]
        )
        self.bundle.add("ranker", name, folder)
        return name

    def with_tokens(self, shop: Shop, draft: Release) -> Release:
        """The draft with an index that holds what the ranker reads of every item, and with words of that index. Those
        before are removed, unless a release names them.

        The same where it does already, and where updates were appended to its index: requests then tokenise items.
        """
        if draft.ranker is None:
            return draft
        index = with_columns(
            self.bundle,
            IndexVersion.open(self.bundle.path_of("index", draft.index), device="cpu"),
            self.columns(draft.ranker),
        )
        if index is None or index == draft.index:
            return draft
        words = (
            None
            if draft.words is None
            else self.add_words(shop, index, ReleaseSettings.of(draft).language, like=draft.index)
        )
        discard(self.bundle, ({} if draft.words is None else {"words": draft.words}) | {"index": draft.index})
        return replace(draft, index=index, words=words)

    def columns(self, ranker: str | None) -> list[ItemColumn]:
        """What an index stores for a ranker of the bundle."""
        if ranker is None:
            return []
        folder = self.bundle.path_of("ranker", ranker)
        found: list[ItemColumn] = [ItemTokenColumn(PairTokenizer.load(folder))]
        if (folder / LATE).is_dir():
            cache = self.bundle.path / "runtime" / ranker / LATE
            found.append(LateColumn(LateScorer.load(folder / LATE, device=self.device, cache=cache), self._previous()))
        return found

    def add_index(
        self,
        shop: Shop,
        towers: Towers,
        *,
        text_vectors: Vectors | None = None,
        item_vectors: ItemVectors | None = None,
        ranker: str | None = None,
        queries: Vectors | None = None,
        log: JobLog,
    ) -> Built:
        """An index version of the shop's items.

        Items are embedded, but for those whose text is in the live release or its updates, or was embedded by a job
        that was interrupted, or whose `text_vectors` [n_items, text_dim] are given. `item_vectors` in
        place of the item tower's: nothing is embedded. What `ranker`, a ranker of the bundle, reads of each item is
        stored beside. `queries` [n, index_dim] are user vectors to measure recall on. Progress goes to `log`.
        """
        texts = ItemTexts(shop.data.items)
        at_hand = [] if text_vectors is None else [TextSource(hash_keys(texts), text_vectors)]
        return build_version(
            self.bundle,
            items=shop.data.items,
            texts=texts,
            encode=partial(towers.encode_items, done=log.advance) if item_vectors is None else None,
            item_vectors=item_vectors or towers.item.vectors,
            searched=towers.config.index_dim,
            towers=towers.folder.name,
            text_encoder=towers.encoder.fingerprint,
            factory=self.config.index.factory,
            recall_target=self.config.index.recall,
            memory=self.config.index.memory,
            columns=self.columns(ranker),
            previous=self._previous(),
            sources=at_hand,
            queries=queries,
            progress=log.report,
        )

    def add_shoppers(self, shop: Shop, train: NDArray[np.bool_] | None = None) -> str | None:
        """Every shopper's events as a part of the bundle, None where there are no events.

        `train` bool [n_events] are those that say what goes together; none: the split's.
        """
        if shop.data.events is None or shop.events is None:
            return None
        train = shop.events.train if train is None else train
        dated = shop.events.dated
        name = fingerprint(shop.data.fingerprint, shop.target_events, array_sha256(train), TOGETHERNESS, dated)
        if self.bundle.has("shoppers", name):
            return name
        with self.bundle.stage("shoppers") as folder:
            write_users(folder, shop.data, shop.target_events, train, dated=dated)
            self.bundle.add("shoppers", name, folder)
        return name

    def add_words(self, shop: Shop, index: str, language: str, *, like: str | None = None) -> str:
        """The words of the shop's items, in a language, as a part of the bundle, by the rows of an index of it.

        `like` is another index of the same rows: the files of its words are shared, if it has any of this version.
        """
        name, before = _words_of(index, language), None if like is None else _words_of(like, language)
        if self.bundle.has("words", name):
            return name
        with self.bundle.stage("words") as folder:
            if before is not None and self.bundle.has("words", before):
                self.bundle.link_files("words", before, folder)
            else:
                texts = ItemTexts(shop.data.items)
                write_words(folder, texts, Analyzer.of_catalogue(language, texts))
            self.bundle.add("words", name, folder, requires={"index": index})
        return name

    def add_canaries(self, shop: Shop) -> str:
        """Requests of the shop with a known outcome as a part of the bundle; see `canaries_of`."""
        canaries = canaries_of(shop)
        name = fingerprint([asdict(canary) for canary in canaries])
        with self.bundle.stage("canaries") as folder:
            write_canaries(folder, canaries)
            self.bundle.add("canaries", name, folder)
        return name

    def retriever(
        self,
        shop: Shop,
        trained: TrainedTowers,
        why: str,
        *,
        train: NDArray[np.bool_] | None = None,
        say: Callable[[str], None],
    ) -> Release:
        """Trained towers, an index and what goes with it as parts, and a draft of them; `train`: see `draft`."""
        towers = self.add_towers(trained.folder)
        with JobLog(now=self.now) as log:
            built = self.add_index(shop, towers, text_vectors=trained.text_vectors, log=log)
        say(built.line())
        return self.draft(shop, towers, built, why, train)

    def draft(
        self, shop: Shop, towers: Towers, built: Built, why: str, train: NDArray[np.bool_] | None = None
    ) -> Release:
        """A release of these parts, the shop's shoppers (see `add_shoppers`), words and canaries that is not yet
        recorded; with a `train` of one's own, as for towers that only propose, of the shoppers alone. Raises
        GateRefused where the index misses the recall that the settings want."""
        built.require_recall(self.config.index.recall)
        return self.named(
            Release(
                id="draft",
                created="",
                towers=towers.folder.name,
                index=built.name,
                shoppers=self.add_shoppers(shop, train),
                words=self.add_words(shop, built.name, shop.language) if train is None else None,
                canaries=self.add_canaries(shop) if train is None else None,
                settings=self.settings(shop).as_json(),
                split=plain({"lines": shop.split_lines(), "folds": shop.fold_sizes()}),
                why=why,
            )
        )

    def settings(self, shop: Shop) -> ReleaseSettings:
        """What the engine follows, and the whole tree that made the release. The fusion is yet to be fitted."""
        ranking = self.config.ranking
        return ReleaseSettings(
            filter_seen=not shop.shoppers_buy_again(),
            targets=shop.target_events,
            language=shop.language,
            analysis=Analyzer(shop.language).fingerprint,
            titles=ranking.titles,
            field_markers=field_markers_fingerprint() if ranking.field_markers else None,
            rerank=planned_steps(ranking),
            config=self.config.model_dump(mode="json"),
            events_read=events_read(shop),
        )

    def named(self, draft: Release) -> Release:
        """The draft as of now, by this machine's user, under the id that its parts give it."""
        created = self.now().isoformat(timespec="seconds")
        return replace(
            draft,
            id=release_id(created, draft.towers, draft.index, draft.ranker, draft.shoppers, draft.words),
            created=created,
            who=user_name(),
            libraries=installed_versions(*LIBRARIES),
            parent=None,
            manifests={},
        )

    def _previous(self) -> IndexVersion | None:
        if self.bundle.current_id() is None:
            return None
        return IndexVersion.open(self.bundle.path_of("index", self.bundle.current().index), device="cpu").updated()

    def _keep_graphs(self, name: str, open_with: Callable[[Path], object]) -> None:
        """Derives the OpenVINO graphs once, on the CPU wherever models were trained, so that serving there never needs
        torch."""
        if self.bundle.runtime(name) is None:
            with self.bundle.stage("runtime") as folder:
                open_with(folder)
                self.bundle.keep_runtime(name, folder)


def events_read(shop: Shop) -> EventsRead | None:
    """Up to where a shop's events include those of a store."""
    recorded = shop.data.recorded
    return (
        None
        if recorded is None or not recorded.position
        else EventsRead(store=recorded.store, position=recorded.position)
    )


def plain(value: Mapping[str, object]) -> JsonMap:
    """What JSON makes of it."""
    found: JsonMap = json.loads(json.dumps(value))
    return found


def encode_with_progress(towers: Towers) -> Callable[[Sequence[str]], Vectors]:
    """The text encoder of towers, with a progress bar."""

    def encode(texts: Sequence[str]) -> Vectors:
        meter = ProgressMeter(len(texts), "embedding items", unit="items")
        vectors = towers.encode_items(texts, done=meter.advance)
        meter.close()
        return vectors

    return encode


def user_name() -> str:
    """Who runs this, as far as the machine can tell."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user may have no name
        return "unknown"


def _words_of(index: str, language: str) -> str:
    """The name of the words of an index, as this version reads them in a language."""
    return fingerprint(index, Analyzer(language).fingerprint)
