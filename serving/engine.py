"""Embedded retrieval calls: open a bundle, ask for items."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from indexing.manifest import JsonMap
from indexing.releases import Release
from indexing.store import Bundle
from indexing.version import IndexVersion
from ranking.blend import Blend
from ranking.cross_encoder import CrossEncoderScorer
from retrieval.fusion import TOWERS, Fusion
from retrieval.topk import CSR, Rows
from retrieval.towers import Towers
from serving.histories import Histories, Known
from serving.requests import Answer, Hit, Request, Seen
from serving.retriever import Retriever, Shortlists, TaskName
from serving.shoppers import Shoppers
from serving.sources import open_sources
from serving.stages import SHORTLIST, Reranked, Stages

LONGEST, TITLES = 50, 3  # where the release does not say: events that are read, newest titles that are reranked by
POPULAR = "popular items"  # nothing is known of who asks, and nothing is asked for
CATALOGUE = "items in the order of the catalogue"  # the same, and nothing is known to be popular
QUERY_ALONE = "the query alone"  # a shopper or a history is named, and nothing is known of it
KNOWN_ITEMS = "the known items of the history"  # others of it are not in the index
RECOMMENDATION = "a recommendation"  # the query is empty
FEWER = "all items that may be answered"  # they are fewer than k


class Clock:
    """Milliseconds of each stage of one request."""

    def __init__(self) -> None:
        self.milliseconds: dict[str, float] = {}

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Times what happens inside."""
        begun = time.perf_counter()
        yield
        self.milliseconds[name] = round((time.perf_counter() - begun) * 1000, 3)


@dataclass(frozen=True)
class Engine:
    """Answers requests from one release, whatever is published meanwhile. Safe to call from many threads.

    Open it once and keep it: `Engine.open(path)`; open another after a new release went live.
    """

    release: Release
    stages: Stages
    shoppers: Shoppers
    histories: Histories
    remove_seen: bool  # what `seen="auto"` means here
    reranks: frozenset[str]  # tasks whose gate the cross-encoder has passed: "recommend", "search"

    @classmethod
    def open(cls, path: str | Path, *, device: str = "auto", precision: str = "auto") -> Engine:
        """The live release of a bundle. Raises BadBundle, CorruptBundle or StaleArtefact, by name."""
        bundle = Bundle.open(Path(path))
        return cls.of_release(bundle, bundle.current(), device=device, precision=precision)

    @classmethod
    def of_release(cls, bundle: Bundle, release: Release, *, device: str = "auto", precision: str = "auto") -> Engine:
        """Any release of a bundle, live or not."""
        folder, cache = bundle.path_of("towers", release.towers), bundle.path / "runtime" / release.towers
        towers = Towers.open(folder, device=device, precision=precision, cache=cache)
        version = IndexVersion.open(bundle.path_of("index", release.index), device=device)
        shoppers = _shoppers(bundle, release, version, towers.config.kinds)
        longest = int(towers.config.history.get("longest", LONGEST))
        settings = release.settings
        targets = settings.get("targets")
        kinds = tuple(map(str, targets if isinstance(targets, list) else ()))
        words = None if release.words is None else bundle.path_of("words", release.words)
        sources = open_sources(words, version, shoppers, kinds)
        stages = Stages(
            towers.user,
            Retriever(version, shoppers.popularity, sources, fusions_of(settings)),
            _scorer(bundle, release, device, precision),
            longest=longest,
            titles=setting_of(settings, "titles", TITLES),
            depth=setting_of(settings, "depth", SHORTLIST),
            blends=blends_of(settings),
        )
        histories = Histories(version, shoppers, longest, kinds)
        gates = release.gates.items()
        passed = frozenset(task for task, gate in gates if isinstance(gate, dict) and gate.get("on") is True)
        return cls(release, stages, shoppers, histories, settings.get("seen") != "keep", passed)

    def recommend(
        self,
        *,
        user_id: str | None = None,
        history: Sequence[str] | None = None,
        query: str | None = None,
        k: int = 10,
        seen: Seen = "auto",
        rerank: bool = True,
    ) -> Answer:
        """The k best items for a shopper, known by `user_id` or by the item ids of a `history`, oldest first.

        With a query it is a personalised search. An unknown user or an empty history is answered by what is popular;
        unknown items of a history are passed over; k beyond the catalogue gives the whole catalogue. What was fallen
        back to is said in the answer. Raises BadRequest for a k below 1.
        """
        return self.answer(Request(user_id=user_id, history=history, query=query, k=k, seen=seen, rerank=rerank))

    def search(
        self, text: str, *, user_id: str | None = None, k: int = 10, seen: Seen = "keep", rerank: bool = True
    ) -> Answer:
        """The k best items for a query, leaning towards what the shopper likes, if one is given.

        An empty query is a recommendation.
        """
        return self.answer(Request(user_id=user_id, query=text, k=k, seen=seen, rerank=rerank))

    def similar(self, item_id: str, *, k: int = 10) -> Answer:
        """The k items nearest to an item, itself left out; popular ones for an item that is not known."""
        request, clock = Request(history=[item_id], k=k), Clock()
        known = self.histories.of_items([item_id])
        vectors = np.zeros((1, self.stages.version.vectors.shape[1]), np.float32)
        dim = self.stages.user.config.dim
        vectors[:, :dim] = self.stages.version.vectors[known.taken, :dim].sum(axis=0)
        with clock.stage("search"):
            hits = self.stages.retriever.by_towers(vectors, self._depth(k), _excluding(known.taken))
        fallbacks = () if len(known.taken) else (self._popular,)
        proposed = np.full(hits.rows.shape, bool(len(known.taken)))
        return self._answered(request, Shortlists(hits, {TOWERS: proposed}), fallbacks, clock)

    def complete_cart(self, items: Sequence[str], *, user_id: str | None = None, k: int = 10) -> Answer:
        """The k items that best go on from a cart of item ids; what is in it is never answered.

        Items that the shopper took before are left out as in a recommendation.
        """
        request = Request(user_id=user_id, history=items, k=k)
        cart = self.histories.of_items(items).taken
        known = self.histories.of_cart(items, user_id)
        return self._run(request, known, np.union1d(cart, known.taken) if self.remove_seen else cart)

    def titles(self, items: Sequence[str]) -> list[str]:
        """The titles of items; an unknown one has none and is left out."""
        rows = self.stages.version.rows_of(items)
        found: list[str] = self.stages.version.items["title"].take(rows[rows >= 0]).to_pylist()
        return found

    def answer(self, request: Request) -> Answer:
        """Any request."""
        given = request.history is not None
        known = self.histories.of_items(request.history or ()) if given else self.histories.of_shopper(request.user_id)
        removed = request.seen == "remove" or (request.seen == "auto" and self.remove_seen and not request.text)
        return self._run(request, known, known.taken if removed else known.taken[:0])

    def _run(self, request: Request, known: Known, left_out: Rows) -> Answer:
        clock, text = Clock(), request.text
        past = self.shoppers.query_texts
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
        task: TaskName = "search" if text else "recommend"
        with clock.stage("search"):
            asked, left_out_lists = known.asked._replace(texts=[text]), _excluding(left_out)
            found = self.stages.retriever.shortlists(vectors, asked, self._depth(request.k), task, left_out_lists)
            if text:
                found = self.stages.retriever.named_first(found, asked, left_out_lists)
        about = self.stages.user_texts(known.batch, [text or None])
        if not request.rerank or task not in self.reranks or not about[0]:
            return self._answered(request, found, fallbacks, clock)
        with clock.stage("rerank"):
            logits = self.stages.scores(about, found.hits)
            logits[found.exact[:, : logits.shape[1]]] = np.nan  # what was named stands first, whatever is thought of it
            reranked = self.stages.reranked(found.hits, logits, task)
        return self._answered(request, found, fallbacks, clock, reranked)

    def _answered(
        self,
        request: Request,
        shortlist: Shortlists,
        fallbacks: tuple[str, ...],
        clock: Clock,
        reranked: Reranked | None = None,
    ) -> Answer:
        hits = shortlist.hits
        rows, scores, places = hits.rows[0], hits.scores[0], np.arange(hits.rows.shape[1])
        if reranked is not None:
            rows, scores, places = reranked.hits.rows[0], self.stages.shown_scores(reranked)[0], reranked.places[0]
        kept = np.flatnonzero(rows >= 0)[: request.k]
        version = self.stages.version
        ids, titles = version.ids_of(rows[kept]), version.items["title"].take(rows[kept]).to_pylist()
        before = places[kept].tolist()
        sources = [shortlist.sources_of(0, place) for place in before]
        columns = zip(ids, titles, scores[kept].tolist(), [place + 1 for place in before], sources, strict=True)
        if len(kept) < request.k:
            fallbacks = (*fallbacks, FEWER)
        found = tuple(Hit(*column) for column in columns)
        return Answer(found, self.release.id, fallbacks, reranked is not None, clock.milliseconds)

    def _fallbacks(self, request: Request, known: Known, heard: bool) -> tuple[str, ...]:
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
        return min(max(k, SHORTLIST), self.stages.version.size)


def fusions_of(settings: JsonMap) -> dict[str, Fusion]:
    """The fusion of each task that the release recorded. Raises BadBundle for one of another version."""
    recorded = settings.get("fusion")
    tasks = recorded.items() if isinstance(recorded, dict) else ()
    return {task: Fusion.of(weights) for task, weights in tasks if isinstance(weights, dict)}


def _excluding(rows: Rows) -> CSR | None:
    return CSR.from_lists([rows]) if len(rows) else None


def _shoppers(bundle: Bundle, release: Release, version: IndexVersion, kinds: tuple[str, ...]) -> Shoppers:
    folder = None if release.shoppers is None else bundle.path_of("shoppers", release.shoppers)
    shoppers = Shoppers.open(folder, version)
    return shoppers.recoded(kinds) if kinds else shoppers


def _scorer(bundle: Bundle, release: Release, device: str, precision: str) -> CrossEncoderScorer | None:
    if release.ranker is None:
        return None
    folder, cache = bundle.path_of("ranker", release.ranker), bundle.path / "runtime" / release.ranker
    return CrossEncoderScorer.load(folder, device=device, precision=precision, cache=cache)


def setting_of(settings: JsonMap, name: str, default: int) -> int:
    """A whole number that the release recorded."""
    value = settings.get(name, default)
    return value if isinstance(value, int) else default


def blends_of(settings: JsonMap) -> dict[str, Blend]:
    """The blend of each task that the release recorded. Raises BadBundle for one of another version."""
    recorded = settings.get("blend")
    tasks = recorded.items() if isinstance(recorded, dict) else ()
    return {task: Blend.of(weights) for task, weights in tasks if isinstance(weights, dict)}
