"""A release opened to answer: everything that one answer reads, and nothing of it changes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from indexing.bundle.bundle import Bundle
from indexing.bundle.releases import Release
from indexing.version.index_version import IndexVersion
from ranking.feature_ranker.protocol import FeatureRanker
from ranking.features.facts import ShopFacts
from ranking.features.registry import FeatureReader
from ranking.features.shortlists import Shortlists
from retrieval.data.time_units import DAY
from retrieval.encoders.runtime import DEFAULT_RUNTIME, RuntimeOptions
from retrieval.errors import MissingDependency, ShortlistError
from retrieval.sources.exact import EXACT
from retrieval.sources.fusion import TOWERS, Fusion
from retrieval.sources.lexical import Lexical
from retrieval.sources.protocols import CandidateSource
from retrieval.text.analysis import Analyzer
from retrieval.text.rendering import item_texts
from retrieval.text.spelling import Spelling, words_asked
from retrieval.towers.query_vectors import QueryVectors
from retrieval.towers.serving import Towers, UserTower
from serving.answering.deadline import StageTimes
from serving.answering.recorded.users import LiveUsers
from serving.answering.release_settings import SHORTLIST, OrderName, ReleaseSettings, features_passed, gates_passed
from serving.answering.rerank_steps import Step, open_steps
from serving.answering.retriever import FilterMasks, Retriever
from serving.answering.second_stage import SecondStage
from serving.answering.source_registry import OpenedParts, Sources
from serving.answering.user_reader import UserContextReader
from serving.answering.user_store import UserStore
from serving.rules.compiled import CompiledRules

if TYPE_CHECKING:
    from scipy.sparse import csr_array

LONGEST = 50  # events of a history that are read where the towers do not say
PAST_QUERIES = 20_000  # whose words are known, the most frequent
POPULAR = 20  # items of a week, at least
TRIES = 5  # to open the live release, while others take its place


@dataclass(frozen=True, kw_only=True)
class ReleaseState:
    """A release with the updates of its index up to one of them. Safe to answer from in many threads.

    Every file that an answer needs is open or read, so that it goes on answering when the release is pruned.
    """

    release: Release
    settings: ReleaseSettings
    user_tower: UserTower
    query_vectors: QueryVectors
    retriever: Retriever
    user_store: UserStore
    user_contexts: UserContextReader
    reranks: frozenset[str]  # gates that the cross-encoder has passed: "recommend", "search"
    scores: frozenset[str] = frozenset()  # gates that the order by features has passed
    second_stage: SecondStage = field(default_factory=SecondStage)
    steps: tuple[Step, ...] = ()  # of reranking: each reorders the head of the previous step's order
    spelling: Spelling | None = None
    shortlist: int = SHORTLIST  # items that are retrieved, at least
    stage_times: StageTimes = field(default_factory=StageTimes, compare=False)
    rules: CompiledRules | None = None  # of merchandising, over the version

    @classmethod
    def live(
        cls, bundle: Bundle, options: RuntimeOptions = DEFAULT_RUNTIME, *, like: ReleaseState | None = None
    ) -> ReleaseState:
        """The live release of a bundle with all its updates; see `of_release`.

        Begins again where another release became live meanwhile and the one being opened was pruned.
        """
        opened = partial(cls.of_release, bundle, options=options, like=like)
        for _ in range(TRIES - 1):
            name = bundle.current_id()
            try:
                return opened(bundle.current()).updated()
            except (ShortlistError, OSError):
                if bundle.current_id() == name:
                    raise
        return opened(bundle.current()).updated()

    @classmethod
    def of_release(
        cls,
        bundle: Bundle,
        release: Release,
        options: RuntimeOptions = DEFAULT_RUNTIME,
        *,
        like: ReleaseState | None = None,
    ) -> ReleaseState:
        """Any release of a bundle, live or not, as it was built. What `like` has open already is shared: models, and
        the sources of the same index and shoppers.

        Raises BadConfig for int8 on CUDA and for what is not known; BadBundle, CorruptBundle or StaleArtefact, by name.
        """
        settings = ReleaseSettings.of(release)
        settings.require_same_markers(release)
        settings.require_same_analysis(release)
        shared = like is not None and like.release.towers == release.towers
        user_tower = like.user_tower if like is not None and shared else _user_tower(bundle, release, options)
        fusions, alike = settings.fusions, like if like is not None and shared and _same_shop(like, release) else None
        if alike is None:
            version = IndexVersion.open(bundle.path_of("index", release.index), device=options.device)
            store = _user_store(bundle, release, version, user_tower.config.kinds)
            words = None if release.words is None else bundle.path_of("words", release.words)
            sources: Mapping[str, CandidateSource] = Sources(
                OpenedParts(version, store, settings.targets, words, settings.language)
            )
        else:
            version, store, sources = alike.version, alike.user_store, alike.retriever.sources
        sources = _used(sources, fusions)
        longest = int(user_tower.config.history.get("longest", LONGEST))
        open_now = like.steps if like is not None and like.release.ranker == release.ranker else ()
        state = cls(
            release=release,
            settings=settings,
            user_tower=user_tower,
            query_vectors=like.query_vectors if like is not None and shared else QueryVectors(user_tower),
            retriever=Retriever(version, store.popularity, sources, fusions),
            user_store=store,
            user_contexts=UserContextReader(version, store, longest, settings.targets),
            reranks=gates_passed(release.gates),
            scores=features_passed(release.gates),
            steps=open_steps(bundle, release, version, options, like=open_now),
            spelling=_spelling(sources, user_tower, store),
        )
        if release.second_stage is None:
            return state
        folder = bundle.path_of("second_stage", release.second_stage)
        return replace(state, second_stage=SecondStage.open(folder, state.facts))._warmed()

    def updated(self) -> ReleaseState:
        """With the updates that were appended to its index since; itself where there are none.

        Raises CorruptBundle, naming the file, for an update that is not whole.
        """
        retriever = self.retriever
        version = retriever.version.updated()
        if version is retriever.version:
            return self
        popularity = np.pad(retriever.popularity, (0, version.size - len(retriever.popularity)))
        sources = retriever.sources
        if isinstance(sources, Sources):
            sources = sources.updated(version)
        spelling = self.spelling
        if spelling is not None and version.delta is not None:
            spelling = spelling.with_extra_words(
                word for text in item_texts(version.delta.items) for word in self.analyzer.words(text)
            )
        return replace(
            self,
            retriever=replace(retriever, version=version, popularity=popularity, sources=sources),
            spelling=spelling,
            user_contexts=replace(self.user_contexts, version=version),
            rules=None if self.rules is None else self.rules.over(version),
        )._warmed()

    def with_live(self, live: LiveUsers, retriever: Retriever, facts: Callable[[ShopFacts], ShopFacts]) -> ReleaseState:
        """The same with what shoppers did since: `live` are their own events, `retriever` and `facts` count those of
        all."""
        made = replace(self, retriever=retriever, user_contexts=replace(self.user_contexts, live=live))
        made.__dict__["filter_masks"] = self.filter_masks
        if self.second_stage.rankers:
            now = made.__dict__["facts"] = facts(self.facts)
            made._readers.update({names: replace(reader, facts=now) for names, reader in self._readers.items()})
        return made

    def _warmed(self) -> ReleaseState:
        """Itself, with what features read of the shop computed, so that the first request does not wait for it."""
        if self.version.size:
            one = Shortlists.of_nobody(self.version.dim)
            for ranker in self.second_stage.rankers.values():
                self.feature_reader(ranker).read(one)
        return self

    @property
    def version(self) -> IndexVersion:
        """The items and their index."""
        return self.retriever.version

    @property
    def analyzer(self) -> Analyzer:
        """Reads the words of items and of queries."""
        lexical = self.retriever.sources.get("words")
        return lexical.analyzer if isinstance(lexical, Lexical) else self.settings.analyzer

    @property
    def filter_seen(self) -> bool:
        """Whether recommendations leave out what was taken before, where a request does not say."""
        return self.settings.filter_seen

    @cached_property
    def filter_masks(self) -> FilterMasks:
        """The masks of requests' filters over the items."""
        return FilterMasks(self.version)

    @cached_property
    def substitutes(self) -> csr_array | None:
        """1 where an item (column) can stand in for another (row), sparse float32 [n_items, n_items] over the items as
        built; None where the shop relates none."""
        read = self.user_store.similarities.get("replaces")
        return None if read is None else read()

    @cached_property
    def facts(self) -> ShopFacts:
        """The shop as features read it."""
        version, store = self.version, self.user_store
        return ShopFacts(
            items=version.items_at(np.arange(version.size)),
            analyzer=self.analyzer,
            timeline=store.timeline,
            targets=self.settings.targets,
            dated=store.dated,
            figures=store.figures,
            sources=(TOWERS, *(name for name in self.retriever.sources if name != EXACT)),
            similarities=store.similarities,
            vectors_at=version.vectors_at,
            tower_parts=self.user_tower.config.parts,
            items_with=self._items_with,
            today=store.today * DAY,
        )

    @cached_property
    def popular_this_week(self) -> frozenset[int]:
        """The rows of the items that were taken most in the 7 days before now: a hundredth of those that were,
        POPULAR at least. Nothing where times are no dates."""
        facts = self.facts
        if not facts.dated or facts.today is None or not len(facts.taken):
            return frozenset()
        rows, now = np.arange(facts.n_items), np.array(facts.today)
        counts = facts.taken.before(rows, now) - facts.taken.before(rows, now - 7 * DAY)
        most = np.argsort(-counts, kind="stable")[: max(POPULAR, int(np.count_nonzero(counts)) // 100)]
        return frozenset(most[counts[most] > 1].tolist())

    @cached_property
    def _items_with(self) -> Callable[[str], int] | None:
        lexical = self.retriever.sources.get("words")
        return lexical.items_with if isinstance(lexical, Lexical) else None

    def feature_ranker(self, order: OrderName | None, gate: str | None) -> FeatureRanker | None:
        """What puts the candidates of an order in place by features; None where the task's gate says no, or nothing
        does."""
        return None if order is None or gate not in self.scores else self.second_stage.ranker(order)

    def missing_ranker(self, order: OrderName | None, gate: str | None) -> MissingDependency | None:
        """What has to be installed before the candidates of an order can be put in place by features, as the task's
        gate would have it; None where nothing is missing. Such an order is answered as the sources give it."""
        return None if order is None or gate not in self.scores else self.second_stage.lacks(order)

    def feature_reader(self, ranker: FeatureRanker) -> FeatureReader:
        """What computes the features that a ranker reads."""
        known = self._readers.get(ranker.names)
        if known is None:
            known = self._readers[ranker.names] = FeatureReader.of(ranker.names, self.facts)
        return known

    @cached_property
    def _readers(self) -> dict[tuple[str, ...], FeatureReader]:
        return {}

    @property
    def depth(self) -> int:
        """How many places are reranked, 0 without a cross-encoder."""
        return self.steps[0].depth if self.steps else 0

    def at_depth(self, depth: int) -> ReleaseState:
        """The same with `depth` places reranked by the first step, and no more than that by later ones."""
        first = tuple(replace(step, depth=depth) for step in self.steps[:1])
        later = tuple(replace(step, depth=min(step.depth, depth)) for step in self.steps[1:])
        return replace(self, steps=first + later)

    def without_logits(self) -> ReleaseState:
        """The same with steps of reranking that only weigh anew, as was fitted without any logit."""
        return replace(self, steps=tuple(step.without_logit() for step in self.steps))

    def forget(self) -> None:
        """Empties the memory of queries and filters: the next that come are read as if for the first time."""
        self.query_vectors.forget()
        self.filter_masks.forget()

    def titles(self, items: Sequence[str]) -> list[str]:
        """The titles of items; an unknown one has none and is left out."""
        rows = self.version.rows_of(items)
        found: list[str] = self.version.values_at("title", rows[rows >= 0]).to_pylist()
        return found

    def item_texts(self, rows: NDArray[np.int64]) -> list[str]:
        """The rendered items at rows."""
        return item_texts(self.version.items_at(rows))


def _same_shop(like: ReleaseState, release: Release) -> bool:
    """Whether an open release without updates has the items and the shoppers of another."""
    own = like.release
    parts = ((own.index, release.index), (own.shoppers, release.shoppers), (own.words, release.words))
    targets = like.settings.targets == ReleaseSettings.of(release).targets
    return like.version.delta is None and targets and all(one == other for one, other in parts)


def _used(sources: Mapping[str, CandidateSource], fusions: dict[str, Fusion]) -> Mapping[str, CandidateSource]:
    """The sources, those that count read from the disk."""
    used = {EXACT}.union(*(fusion.weights for fusion in fusions.values()))
    for name in used & set(sources):
        sources[name]
    return sources


def _spelling(sources: Mapping[str, CandidateSource], user_tower: UserTower, store: UserStore) -> Spelling | None:
    lexical = sources.get("words")
    if not isinstance(lexical, Lexical):
        return None
    asked = words_asked(*store.frequent_queries(PAST_QUERIES), lexical.analyzer)
    return Spelling.of(lexical.codes, lexical.indptr, user_tower.encoder.is_word, lexical.analyzer, asked)


def _user_tower(bundle: Bundle, release: Release, options: RuntimeOptions) -> UserTower:
    folder, cache = bundle.path_of("towers", release.towers), bundle.path / "runtime" / release.towers
    kind = "auto" if options.precision == "int8" else options.precision  # int8 is of cross-encoders
    return Towers.open(folder, device=options.device, precision=kind, runtime=options.runtime, cache=cache).user


def _user_store(bundle: Bundle, release: Release, version: IndexVersion, kinds: tuple[str, ...]) -> UserStore:
    folder = None if release.shoppers is None else bundle.path_of("shoppers", release.shoppers)
    store = UserStore.open(folder, version)
    return store.recoded(kinds) if kinds else store
