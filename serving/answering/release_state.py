"""A release opened to answer: everything that one answer reads, and nothing of it changes."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from functools import cached_property, partial

import numpy as np

from indexing.bundle.bundle import Bundle
from indexing.bundle.releases import Release
from indexing.version.index_version import IndexVersion
from retrieval.encoders.blas_threads import ONE_BLAS_THREAD
from retrieval.encoders.runtime import RuntimeName
from retrieval.errors import ShortlistError
from retrieval.sources.fusion import TOWERS, Fusion
from retrieval.sources.lexical import Lexical
from retrieval.text.rendering import item_texts
from retrieval.text.spelling import Spelling
from retrieval.text.words import words
from retrieval.topk import CSR, Mask, Rows
from retrieval.towers.serving import Towers, UserTower
from serving.answering.filter_masks import FilterMasks
from serving.answering.release_settings import fusions_of, passed, reads_marks, setting_of
from serving.answering.rerank_steps import open_steps
from serving.answering.retriever import EXACT, FusionName, Retriever, Shortlists, TaskName
from serving.answering.source_registry import WORDS, Sources, open_sources
from serving.answering.stages import Reranked, Stages
from serving.answering.user_context import Histories, UserContext
from serving.answering.user_store import Shoppers
from serving.request import Answer, Hit, Request

LONGEST, TITLES = 50, 3  # where the release does not say: events that are read, newest titles that are reranked by
WARM_UP = "warmupp"  # a query; what it asks for does not matter, but no item should have its word
TRIES = 5  # to open the live release, while others take its place
POPULAR = "popular items"  # nothing is known of who asks, and nothing is asked for
CATALOGUE = "items in the order of the catalogue"  # the same, and nothing is known to be popular
QUERY_ALONE = "the query alone"  # a shopper or a history is named, and nothing is known of it
KNOWN_ITEMS = "the known items of the history"  # others of it are not in the index
RECOMMENDATION = "a recommendation"  # the query is empty
FEWER = "all items that may be answered"  # they are fewer than k


class Clock:
    """Milliseconds of each stage of one request, and how many are left of those from its beginning."""

    def __init__(self, deadline: float | None = None) -> None:
        self.timings_ms: dict[str, float] = {}
        self._deadline, self._begun = deadline, time.perf_counter()

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Times what happens inside; a stage in several parts is their sum."""
        begun = time.perf_counter()
        yield
        spent = (time.perf_counter() - begun) * 1000
        self.timings_ms[name] = round(self.timings_ms.get(name, 0.0) + spent, 3)

    @property
    def left(self) -> Callable[[], float] | None:
        """How many milliseconds are left at each call; None without a deadline."""
        if (deadline := self._deadline) is None:
            return None
        return lambda: deadline - (time.perf_counter() - self._begun) * 1000


@dataclass(frozen=True)
class ReleaseState:
    """A release with the updates of its index up to one of them. Safe to answer from in many threads.

    Every file that an answer needs is open or read, so that it goes on answering when the release is pruned.
    """

    release: Release
    stages: Stages
    shoppers: Shoppers
    histories: Histories
    remove_seen: bool  # what `filter_seen=None` means here
    reranks: frozenset[str]  # tasks whose gate the cross-encoder has passed: "recommend", "search"

    @classmethod
    def live(
        cls,
        bundle: Bundle,
        *,
        device: str = "auto",
        precision: str = "auto",
        runtime: RuntimeName = "openvino",
        like: ReleaseState | None = None,
    ) -> ReleaseState:
        """The live release of a bundle with all its updates; see `of_release`.

        Begins again where another release became live meanwhile and the one being opened was pruned.
        """
        opened = partial(cls.of_release, bundle, device=device, precision=precision, runtime=runtime, like=like)
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
        *,
        device: str = "auto",
        precision: str = "auto",
        runtime: RuntimeName = "openvino",
        like: ReleaseState | None = None,
    ) -> ReleaseState:
        """Any release of a bundle, live or not, as it was built. Models that `like` has open already are shared.

        `precision` int8 is of the ranker alone; `runtime` is of the texts' models on CPUs. Raises BadConfig for int8
        on CUDA and for what is not known; BadBundle, CorruptBundle or StaleArtefact, by name.
        """
        user = _user_tower(bundle, release, device, precision, runtime, like)
        version = IndexVersion.open(bundle.path_of("index", release.index), device=device)
        shoppers = _shoppers(bundle, release, version, user.config.kinds)
        longest = int(user.config.history.get("longest", LONGEST))
        settings = release.settings
        targets = settings.get("targets")
        kinds = tuple(map(str, targets if isinstance(targets, list) else ()))
        words = None if release.words is None else bundle.path_of("words", release.words)
        fusions = fusions_of(settings)
        sources = _read(open_sources(words, version, shoppers, kinds), fusions)
        stages = Stages(
            user,
            Retriever(version, shoppers.popularity, sources, fusions),
            longest=longest,
            titles=setting_of(settings, "titles", TITLES),
            marked=reads_marks(release),
            steps=open_steps(
                bundle,
                release,
                version,
                device=device,
                precision=precision,
                runtime=runtime,
                like=like.stages.steps if like is not None and like.release.ranker == release.ranker else (),
            ),
            spelling=_spelling(sources, user),
        )
        histories = Histories(version, shoppers, longest, kinds)
        return cls(release, stages, shoppers, histories, settings.get("seen") != "keep", passed(release.gates))

    def updated(self) -> ReleaseState:
        """With the updates that were appended to its index since; itself where there are none.

        Raises CorruptBundle, naming the file, for an update that is not whole.
        """
        retriever = self.stages.retriever
        version = retriever.version.updated()
        if version is retriever.version:
            return self
        popularity = np.pad(retriever.popularity, (0, version.size - len(retriever.popularity)))
        sources = retriever.sources
        if isinstance(sources, Sources):
            sources = sources.updated(version)
        retriever = replace(retriever, version=version, popularity=popularity, sources=sources)
        spelling = self.stages.spelling
        if spelling is not None and version.delta is not None:
            spelling = spelling.also(word for text in item_texts(version.delta.items) for word in words(text))
        return replace(
            self,
            stages=replace(self.stages, retriever=retriever, spelling=spelling),
            histories=replace(self.histories, version=version),
        )

    def answer(self, request: Request, clock: Clock | None = None) -> Answer:
        """Any request, since `clock` began. Raises BadRequest for filters that the items do not have."""
        clock = clock or Clock(request.deadline_ms)
        given = request.history is not None
        with clock.stage("history"):
            known = (
                self.histories.of_items(request.history or ()) if given else self.histories.of_shopper(request.user_id)
            )
        removed = request.filter_seen if request.filter_seen is not None else self.remove_seen and not request.text
        name: FusionName = "recommend_unseen" if removed else "recommend"
        return self._run(request, known, known.taken if removed else known.taken[:0], name, clock)

    def similar(self, request: Request) -> Answer:
        """The items nearest to those of the request's history, themselves left out; popular ones where none is
        known."""
        clock = Clock()
        with clock.stage("history"):
            known = self.histories.of_items(request.history or ())
            vectors = np.zeros((1, self.version.dim), np.float32)
            dim = self.stages.user.config.dim
            vectors[:, :dim] = self.version.vectors_at(known.taken)[:, :dim].sum(axis=0)
        allowed = self._allowed(request, clock)
        with clock.stage("search"):
            hits = self.stages.retriever.by_towers(vectors, self._depth(request.k), _excluding(known.taken), allowed)
        fallbacks = () if len(known.taken) else (self._popular,)
        proposed = np.full(hits.rows.shape, bool(len(known.taken)))
        return self._answered(request, Shortlists(hits, {TOWERS: proposed}), fallbacks, clock)

    def complete_cart(self, request: Request, clock: Clock | None = None) -> Answer:
        """What best goes on from the cart that the request's history is, never anything in it; of what its shopper took
        before, nothing that a recommendation would leave out. Where nobody is known to take anything again, it is an
        order of new things."""
        clock, items = clock or Clock(request.deadline_ms), request.history or ()
        with clock.stage("history"):
            cart = self.histories.of_items(items).taken
            known = self.histories.of_cart(items, request.user_id)
        name: FusionName = "recommend" if len(known.taken) else "recommend_unseen"
        return self._run(request, known, np.union1d(cart, known.taken) if self.remove_seen else cart, name, clock)

    def warm_up(self) -> None:
        """Answer a request that goes through every model, so that the first shopper does not wait for them."""
        self.answer(Request(history=self.version.ids_of(np.arange(1)), query=WARM_UP, k=1))

    def forget(self) -> None:
        """Empty the memory of queries and filters: the next that come are read as if for the first time."""
        self.stages.forget()
        self._masks.forget()

    def titles(self, items: Sequence[str]) -> list[str]:
        """The titles of items; an unknown one has none and is left out."""
        rows = self.version.rows_of(items)
        found: list[str] = self.version.values_at("title", rows[rows >= 0]).to_pylist()
        return found

    @property
    def version(self) -> IndexVersion:
        """The items and their index."""
        return self.stages.version

    def _run(self, request: Request, known: UserContext, left_out: Rows, name: FusionName, clock: Clock) -> Answer:
        """`name` is the fusion of what is asked without a text."""
        text = typed = request.text
        if typed and request.spellcheck:
            with clock.stage("spell"):
                text = self.stages.spelled([typed])[0]
        task: TaskName = "search" if text else "recommend"
        reranks = request.rerank and task in self.reranks
        with ONE_BLAS_THREAD if reranks else nullcontext():  # idle ones would keep a core from the cross-encoder
            return self._ordered(request, text, known, left_out, name, reranks, clock)

    def _ordered(
        self,
        request: Request,
        text: str,
        known: UserContext,
        left_out: Rows,
        name: FusionName,
        reranks: bool,
        clock: Clock,
    ) -> Answer:
        typed, past = request.text, self.shoppers.query_texts
        allowed = self._allowed(request, clock)
        if text:
            with clock.stage("encode"):
                self.stages.query_vectors([text])  # remembered
        with clock.stage("history"):
            vectors = (
                self.stages.searcher_vectors(known.batch, past, text, known.gap)
                if text
                else self.stages.history_vectors(known.batch, past)
            )
        fallbacks = self._fallbacks(request, known, bool(known.batch.readable.any()))
        with clock.stage("search"):
            asked, excluded = known.asked._replace(queries=[text]), _excluding(left_out)
            order: FusionName = "search" if text else name
            found = self.stages.retriever.shortlists(vectors, asked, self._depth(request.k), order, excluded, allowed)
            if text:
                named = asked._replace(queries=[typed])
                found = self.stages.retriever.named_first(found, named, excluded, allowed)
        reranked = None
        if reranks:
            with clock.stage("rerank"):
                about = self.stages.user_texts(known.batch, [text or None], self.shoppers.timeline.kinds)
                if about[0]:
                    reranked = self.stages.rerank(  # what was named stands first
                        about, found.hits, order, fixed=found.exact, left=clock.left
                    )
        return self._answered(request, found, fallbacks, clock, reranked, text if text != typed else "")

    def _answered(
        self,
        request: Request,
        shortlist: Shortlists,
        fallbacks: tuple[str, ...],
        clock: Clock,
        reranked: Reranked | None = None,
        corrected_query: str = "",
    ) -> Answer:
        hits = shortlist.hits
        rows, scores, places = hits.rows[0], hits.scores[0], np.arange(hits.rows.shape[1])
        with clock.stage("explain"):
            if reranked is not None:
                rows, scores, places = reranked.hits.rows[0], self.stages.shown_scores(reranked)[0], reranked.places[0]
            kept = np.flatnonzero(rows >= 0)[: request.k]
            ids, titles = self.version.ids_of(rows[kept]), self.version.values_at("title", rows[kept]).to_pylist()
            before = places[kept].tolist()
            sources = [shortlist.sources_of(0, place) for place in before]
            columns = zip(ids, titles, scores[kept].tolist(), [place + 1 for place in before], sources, strict=True)
            items = tuple(Hit(*column) for column in columns)
        if len(items) < request.k:
            fallbacks = (*fallbacks, FEWER)
        return Answer(
            items,
            self.release.id,
            fallbacks,
            reranked is not None and any(reranked.depths),
            clock.timings_ms,
            self.version.revision,
            () if reranked is None else tuple(self._cut(reranked.depths, int((rows >= 0).sum()))),
            corrected_query,
        )

    def _cut(self, depths: Sequence[int], candidates: int) -> Iterator[str]:
        """What steps of reranking were not let read."""
        for step, depth in zip(self.stages.steps, depths, strict=True):
            wanted = min(step.depth, candidates)
            if depth < wanted:
                yield f"rerank, {step.model} model: {depth} of {wanted} places"

    def _fallbacks(self, request: Request, known: UserContext, heard: bool) -> tuple[str, ...]:
        found = [RECOMMENDATION] if request.query is not None and not request.text else []
        named = request.user_id is not None or request.history is not None
        if heard:
            found += [KNOWN_ITEMS] if known.unknown else []
        elif not request.text:
            found.append(self._popular)
        elif named:
            found.append(QUERY_ALONE)
        return tuple(found)

    @property
    def _popular(self) -> str:
        return POPULAR if self.shoppers.popularity.any() else CATALOGUE

    def _depth(self, k: int) -> int:
        return min(max(k, self.stages.shortlist), self.version.size)

    def _allowed(self, request: Request, clock: Clock) -> Mask | None:
        if not request.filters:
            return None
        with clock.stage("filters"):
            return self._masks.of(request.filters)

    @cached_property
    def _masks(self) -> FilterMasks:
        return FilterMasks(self.version)


def _excluding(rows: Rows) -> CSR | None:
    return CSR.from_lists([rows]) if len(rows) else None


def _read(sources: Sources, fusions: dict[str, Fusion]) -> Sources:
    """The sources, those that count read from the disk."""
    used = {EXACT}.union(*(fusion.weights for fusion in fusions.values()))
    for name in used & set(sources):
        sources[name]
    return sources


def _spelling(sources: Sources, user: UserTower) -> Spelling | None:
    lexical = sources.get(WORDS)
    if not isinstance(lexical, Lexical):
        return None
    return Spelling.of(lexical.codes, lexical.indptr, user.encoder.is_word)


def _user_tower(
    bundle: Bundle, release: Release, device: str, precision: str, runtime: RuntimeName, like: ReleaseState | None
) -> UserTower:
    if like is not None and like.release.towers == release.towers:
        return like.stages.user
    folder, cache = bundle.path_of("towers", release.towers), bundle.path / "runtime" / release.towers
    kind = "auto" if precision == "int8" else precision  # int8 is of cross-encoders
    return Towers.open(folder, device=device, precision=kind, runtime=runtime, cache=cache).user


def _shoppers(bundle: Bundle, release: Release, version: IndexVersion, kinds: tuple[str, ...]) -> Shoppers:
    folder = None if release.shoppers is None else bundle.path_of("shoppers", release.shoppers)
    shoppers = Shoppers.open(folder, version)
    return shoppers.recoded(kinds) if kinds else shoppers
