"""Embedded retrieval calls: open a bundle, ask for items."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from indexing.manifest import JsonMap
from indexing.releases import Release
from indexing.store import Bundle
from indexing.version import IndexVersion
from ranking.cross_encoder import CrossEncoderScorer
from retrieval.timeline import HistoryBatch
from retrieval.topk import CSR, Hits, Vectors
from retrieval.towers import Towers
from serving.requests import Answer, Hit, Request
from serving.shoppers import Shoppers
from serving.stages import SHORTLIST, Stages

POPULAR, QUERY_ONLY, KNOWN_ONLY = "popular items", "the query alone", "the known items of the history"


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
    remove_seen: bool  # what `seen="auto"` means here
    reranks: frozenset[str]  # tasks whose gate the cross-encoder has passed: "recommend", "search"
    cart_kind: str

    @classmethod
    def open(cls, path: str | Path, *, device: str = "auto", precision: str = "auto") -> Engine:
        """The live release of a bundle. Raises BadBundle, CorruptBundle or StaleArtefact, by name."""
        bundle = Bundle.open(Path(path))
        return cls.of_release(bundle, bundle.current(), device=device, precision=precision)

    @classmethod
    def of_release(cls, bundle: Bundle, release: Release, *, device: str = "auto", precision: str = "auto") -> Engine:
        """Any release of a bundle, live or not."""
        towers_folder = bundle.path_of("towers", release.towers)
        version = IndexVersion.open(bundle.path_of("index", release.index), device=device)
        towers = Towers.open(
            towers_folder, device=device, precision=precision, cache=bundle.path / "runtime" / release.towers
        )
        scorer = None
        if release.ranker is not None:
            cache = bundle.path / "runtime" / release.ranker
            folder = bundle.path_of("ranker", release.ranker)
            scorer = CrossEncoderScorer.load(folder, device=device, precision=precision, cache=cache)
        known = None if release.shoppers is None else bundle.path_of("shoppers", release.shoppers)
        shoppers = Shoppers.open(known, version)
        if towers.config.kinds:
            shoppers = shoppers.recoded(towers.config.kinds)
        settings = release.settings
        stages = Stages(
            towers.user,
            version,
            scorer,
            shoppers.popularity,
            longest=int(towers.config.history.get("longest", 50)),
            titles=setting_of(settings, "titles", 3),
            depth=setting_of(settings, "depth", SHORTLIST),
        )
        gates = release.gates
        passed = frozenset(task for task, gate in gates.items() if isinstance(gate, dict) and gate.get("on") is True)
        return cls(release, stages, shoppers, settings.get("seen") != "keep", passed, str(settings.get("target", "")))

    def recommend(
        self,
        *,
        user_id: str | None = None,
        history: Sequence[str] | None = None,
        query: str | None = None,
        k: int = 10,
        seen: str = "auto",
        rerank: bool = True,
    ) -> Answer:
        """The k best items for a shopper, known by `user_id` or by the item ids of a `history`, oldest first.

        With a query it is a personalised search. An unknown user or an empty history is answered by what is popular;
        unknown items of a history are passed over; k beyond the catalogue gives the whole catalogue. What was fallen
        back to is said in the answer. Raises BadRequest for a k below 1.
        """
        return self.answer(Request(user_id=user_id, history=history, query=query, k=k, seen=seen, rerank=rerank))  # type: ignore[arg-type]

    def search(
        self, text: str, *, user_id: str | None = None, k: int = 10, seen: str = "keep", rerank: bool = True
    ) -> Answer:
        """The k best items for a query, leaning towards what the shopper likes, if one is given.

        An empty query is a recommendation.
        """
        return self.answer(Request(user_id=user_id, query=text, k=k, seen=seen, rerank=rerank))  # type: ignore[arg-type]

    def similar(self, item_id: str, *, k: int = 10) -> Answer:
        """The k items nearest to an item, itself left out; popular ones for an item that is not known."""
        clock = Clock()
        rows = self.stages.version.rows_of([item_id])
        vectors = np.zeros((1, self.stages.version.vectors.shape[1]), np.float32)
        fallbacks: tuple[str, ...] = (POPULAR,)
        if rows[0] >= 0:
            dim = self.stages.user.config.dim
            vectors[0, :dim] = self.stages.version.vectors[rows[0], :dim]
            fallbacks = ()
        with clock.stage("search"):
            request = Request(k=k)
            hits = self.stages.candidates(vectors, min(k, self.stages.version.size), CSR.from_lists([rows[rows >= 0]]))
        return self._answered(request, hits, fallbacks, clock)

    def complete_cart(self, items: Sequence[str], *, user_id: str | None = None, k: int = 10) -> Answer:
        """The k items that best go on from a cart of item ids; what is in it is never answered."""
        before, cart = self._history(user_id, None), self._given(items)
        columns = (np.hstack(pair)[:, -self.stages.longest :] for pair in zip(before, cart, strict=True))
        request = Request(user_id=user_id, history=items, k=k, seen="remove")
        return self._run(request, HistoryBatch(*columns))

    def titles(self, items: Sequence[str]) -> list[str]:
        """The titles of items; an unknown one has none and is left out."""
        rows = self.stages.version.rows_of(items)
        found: list[str] = self.stages.version.items["title"].take(rows[rows >= 0]).to_pylist()
        return found

    def answer(self, request: Request) -> Answer:
        """Any request."""
        return self._run(request, self._history(request.user_id, request.history))

    def _run(self, request: Request, batch: HistoryBatch) -> Answer:
        clock = Clock()
        query = (request.query or "").strip()
        with clock.stage("history"):
            vectors = self.stages.history_vectors(batch, self.shoppers.query_texts)
        fallbacks = self._fallbacks(request, query, batch, vectors)
        if query:
            with clock.stage("encode"):
                vectors = self.stages.user.both(self.stages.user.queries([query]), vectors)
        seen = batch.items[batch.items >= 0]
        removed = request.seen == "remove" or (request.seen == "auto" and self.remove_seen and not query)
        exclude = CSR.from_lists([np.unique(seen)]) if removed and len(seen) else None
        with clock.stage("search"):
            depth = min(max(request.k, SHORTLIST), self.stages.version.size)
            hits = self.stages.candidates(vectors, depth, exclude)
        task = "search" if query else "recommend"
        texts = self.stages.user_texts(batch, [query or None])
        if not request.rerank or task not in self.reranks or not texts[0]:
            return self._answered(request, hits, fallbacks, clock)
        with clock.stage("rerank"):
            reranked = self.stages.reranked(hits, self.stages.scores(texts, hits))
        return self._answered(request, reranked.hits, fallbacks, clock, reranked.places[0], reranked.logits[0])

    def _answered(
        self,
        request: Request,
        hits: Hits,
        fallbacks: tuple[str, ...],
        clock: Clock,
        places: NDArray[np.int64] | None = None,
        logits: NDArray[np.float32] | None = None,
    ) -> Answer:
        rows = hits.rows[0][: request.k]
        rows = rows[rows >= 0]
        places = np.arange(len(hits.rows[0])) if places is None else places
        scores = hits.scores[0] if logits is None else np.where(np.isfinite(logits), logits, hits.scores[0])
        items = self.stages.version.items
        ids, titles = self.stages.version.ids_of(rows), items["title"].take(rows).to_pylist()
        found = tuple(
            Hit(item_id, title, float(score), int(place) + 1)
            for item_id, title, score, place in zip(ids, titles, scores, places, strict=False)
        )
        return Answer(found, self.release.id, fallbacks, logits is not None, clock.milliseconds)

    def _fallbacks(self, request: Request, query: str, batch: HistoryBatch, vectors: Vectors) -> tuple[str, ...]:
        known = bool(vectors.any())
        found = []
        if request.history is not None and int((batch.items >= 0).sum()) < len(request.history):
            found.append(KNOWN_ONLY)
        if not known and not query:
            found = [POPULAR]
        elif not known and (request.user_id is not None or request.history is not None):
            found = [QUERY_ONLY]
        return tuple(found)

    def _history(self, user_id: str | None, history: Sequence[str] | None) -> HistoryBatch:
        if history is not None:
            return self._given(history)
        timeline = self.shoppers.timeline
        code = None if user_id is None else self.shoppers.code(user_id)
        if code is None:
            return self._given(())
        end = timeline.offsets[code + 1 : code + 2]
        return timeline.batch(np.array([code]), end, self.stages.longest)

    def _given(self, history: Sequence[str]) -> HistoryBatch:
        """A history of item ids, read as events of the target kind, one right after the other."""
        rows = (
            self.stages.version.rows_of(list(history)[-self.stages.longest :])
            if len(history)
            else np.empty(0, np.int64)
        )
        rows = rows[rows >= 0][None, :] if (rows >= 0).any() else np.full((1, 1), -1, np.int64)
        kinds = self.shoppers.timeline.kinds
        code = kinds.index(self.cart_kind) + 1 if self.cart_kind in kinds else 0
        codes, gaps = np.where(rows >= 0, code, 0).astype(np.int64), np.zeros_like(rows)
        return HistoryBatch(rows, np.full_like(rows, -1), codes, gaps, rows >= 0)


def setting_of(settings: JsonMap, name: str, default: int) -> int:
    """A whole number that the release recorded."""
    value = settings.get(name, default)
    return value if isinstance(value, int) else default
