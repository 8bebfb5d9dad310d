"""The stages of a request over whole batches: evaluation and the engine go through these same functions."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from statistics import median
from typing import Literal, NamedTuple, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from indexing.version.index_version import IndexVersion
from ranking.models.cross_encoder import ShortlistScorer, sigmoid
from ranking.models.item_tokens import ItemTokens, StoredTokens
from ranking.models.pair_tokens import TokensByRow
from ranking.ordering.blend import Blend
from ranking.ordering.permute import rerank_order
from ranking.training.settings import FULL
from retrieval.data.timeline import QUERY_KIND, HistoryBatch
from retrieval.text.rendering import item_texts, user_text
from retrieval.text.spelling import Spelling
from retrieval.topk import CSR, Hits, Mask, Vectors
from retrieval.towers.serving import UserTower
from serving.answering.retriever import FusionName, Retriever, fitted_for

SHORTLIST = 100
BlendName: TypeAlias = FusionName | Literal["grade"]
REMEMBERED = 50_000  # past queries whose vectors are kept in memory
FEWEST = 2  # places that can change their order
FIRST = 4  # pairs that are read when nobody knows yet how long they take
REMEMBERED_CALLS = 5  # of which the median tells how long the next takes
TRIED = 10  # calls in a row that have no time, after which one is tried
QUICKEST = 1e-3  # milliseconds a pair: nothing is quicker
OF_DEADLINE = 0.8  # of the time that is left: calls differ, and the answer has to be put together


class Reranked(NamedTuple):
    """A reranked shortlist, its blended logits in the new order (nan: not reranked), each row's place before, the
    number of the last step that read it (-1: none), and how many places each step was let read."""

    hits: Hits
    logits: NDArray[np.float32]  # [n, k]
    places: NDArray[np.int64]  # [n, k], from 0
    read_by: NDArray[np.int64]  # [n, k]
    depths: tuple[int, ...] = ()


class LogitsOf(Protocol):
    """The logits that a step's cross-encoder gives to the first `depth` places, float32 [n, depth], nan for none."""

    def __call__(self, step: Step, hits: Hits, /) -> NDArray[np.float32]: ...


class Pace:
    """How long a cross-encoder took of late for a pair, and so how many pairs fit in a time.

    The estimate, the median of the last calls, holds what is spent on every call, whatever its size; asked again and
    again for the same time, it ends where a call takes that. Many threads may ask and tell.
    """

    def __init__(self) -> None:
        self._seen: tuple[float, ...] = ()  # milliseconds a pair, the newest last
        self._refused = 0  # calls in a row for which too few fitted

    def took(self, pairs: int, milliseconds: float) -> None:
        """What was seen."""
        if pairs:
            self._seen = (*self._seen[1 - REMEMBERED_CALLS :], max(milliseconds / pairs, QUICKEST))

    def fits(self, milliseconds: float) -> int:
        """How many pairs; FIRST where nothing was seen. Of calls for which fewer than FEWEST would fit, every TRIED-th
        is given those, for one slow call must not be the last."""
        if milliseconds <= 0:
            return 0
        seen = self._seen
        if not seen:
            return FIRST
        found = int(OF_DEADLINE * milliseconds / median(seen))
        self._refused = self._refused + 1 if found < FEWEST else 0
        if self._refused < TRIED:
            return found
        self._refused = 0
        return FEWEST


@dataclass(frozen=True)
class Step:
    """One cross-encoder over the first `depth` places of the order before it, and its blends by BlendName.

    `stored` is what the index holds of its tokens as built, None where that is nothing. `model` and `precision` name
    the scorer among those of the ranker.
    """

    scorer: ShortlistScorer
    depth: int
    blends: Mapping[str, Blend] = field(default_factory=dict)
    stored: StoredTokens | None = None
    model: str = FULL
    precision: str = "auto"
    pace: Pace = field(default_factory=Pace, compare=False)

    def blend(self, name: BlendName) -> Blend:
        """What was fitted for an order or for grades; the logit alone where nothing was."""
        return fitted_for(self.blends, name, Blend())


@dataclass(frozen=True)
class Stages:
    """A user tower, a retriever, and the steps of reranking: none, one, or a cascade of a quick one and a slow one.

    Each step orders the head of what the step before it ordered, so that what the last one read stands first and scores
    of two models are never sorted into each other.
    """

    user: UserTower
    retriever: Retriever
    longest: int  # events of a history that are read
    titles: int  # newest titles that the cross-encoder reads
    marked: bool = False  # whether it reads what each part is: a query, what was done with an item
    steps: tuple[Step, ...] = ()
    spelling: Spelling | None = None
    shortlist: int = SHORTLIST  # items that are retrieved, at least

    @property
    def version(self) -> IndexVersion:
        """The items and their index."""
        return self.retriever.version

    def spelled(self, texts: Sequence[str]) -> list[str]:
        """Queries as all stages read them: unknown words taken for those that were meant, where a release has words."""
        return list(texts) if self.spelling is None else [self.spelling.corrected(text) for text in texts]

    def history_vectors(self, batch: HistoryBatch, query_texts: Sequence[str]) -> Vectors:
        """float32 [b, index_dim] of histories, their past queries coded into `query_texts`; zero for an empty one."""
        return self._read(batch, query_texts.__getitem__)

    def searcher_vectors(
        self, batch: HistoryBatch, query_texts: Sequence[str], text: str, gap: NDArray[np.int64]
    ) -> Vectors:
        """float32 [1, index_dim] of who asks for a text with a history [1, l]: the query's vector leaning towards the
        history's, which has the query as its newest event, `gap` after the one before, where the towers hear it so."""
        history, new = batch, len(query_texts)
        if self.user.config.history_hears_query:
            kind = 1 + self.user.config.kinds.index(QUERY_KIND)
            history = batch.with_query(np.array([new]), kind, gap)
        read = self._read(history, lambda code: text if code == new else query_texts[code])
        return self.user.both(self.query_vectors([text]), read)

    def query_vectors(self, texts: Sequence[str]) -> Vectors:
        """The vectors of queries, float32 [n, index_dim]; those of late are remembered, for a shopper comes again."""
        known = self._remembered
        found = {text: known.get(text) for text in texts}
        new = [text for text, vector in found.items() if vector is None]
        if new:
            found.update(zip(new, self.user.queries(new), strict=True))
            if len(known) + len(new) > REMEMBERED:
                known.clear()
            known.update({text: found[text] for text in new})
        return np.stack([vector for text in texts if (vector := found[text]) is not None])

    def forget(self) -> None:
        """Empties the memory of queries."""
        self._remembered.clear()

    def query_user_texts(self, queries: Sequence[str]) -> list[str]:
        """What the cross-encoder reads of requests of which nothing but the query is known."""
        return [user_text((), query, kinds=() if self.marked else None) for query in queries]

    def user_texts(self, batch: HistoryBatch, queries: Sequence[str | None], kinds: Sequence[str]) -> list[str]:
        """What the cross-encoder reads of each request: the query, then the newest titles. `kinds` are the names of the
        batch's kinds of events, by code."""
        known = [np.flatnonzero(row >= 0)[::-1][: 4 * self.titles] for row in batch.items]
        lines = np.repeat(np.arange(len(known)), [len(places) for places in known])
        places = np.concatenate(known) if known else np.empty(0, np.int64)
        titles = self._titles(batch.items[lines, places])
        names = ("", *kinds)
        done = [names[code] for code in batch.kinds[lines, places].tolist()] if self.marked else None
        texts, start = [], 0
        for own, query in zip(known, queries, strict=True):
            part = slice(start, start + len(own))
            texts.append(user_text(titles[part], query, limit=self.titles, kinds=None if done is None else done[part]))
            start += len(own)
        return texts

    @property
    def depth(self) -> int:
        """How many places are reranked, 0 without a cross-encoder."""
        return self.steps[0].depth if self.steps else 0

    def at_depth(self, depth: int) -> Stages:
        """The same with `depth` places reranked by the first step, and no more than that by later ones."""
        first = tuple(replace(step, depth=depth) for step in self.steps[:1])
        return replace(
            self, steps=first + tuple(replace(step, depth=min(step.depth, depth)) for step in self.steps[1:])
        )

    def rerank(
        self,
        user_texts: Sequence[str],
        hits: Hits,
        name: FusionName,
        *,
        fixed: Mask | None = None,
        logits_of: LogitsOf | None = None,
        left: Callable[[], float] | None = None,
    ) -> Reranked:
        """The shortlists in the order of the steps' blended logits; what has none keeps its place.

        `fixed` bool [n, k] are places that stay, whatever is thought of them. `logits_of` in place of the steps' own
        cross-encoders: logits that are known already. `left` tells how many milliseconds are left: a step reads no more
        places than fit, and nothing where that is under FEWEST.
        """
        shape, places = hits.rows.shape, np.arange(hits.rows.shape[1])
        found = Reranked(hits, np.full(shape, np.nan, np.float32), np.broadcast_to(places, shape), np.full(shape, -1))
        for number, planned in enumerate(self.steps):
            step = planned
            if left is not None:
                step = replace(step, depth=min(step.depth, step.pace.fits(left()), *found.depths))
            if left is not None and step.depth < FEWEST:
                found = found._replace(depths=(*found.depths, 0))
                continue
            logits = self.logits(step, user_texts, found.hits) if logits_of is None else logits_of(step, found.hits)
            depths = (*found.depths, step.depth)
            found = _reranked(found, hits, logits, step.blend(name), fixed, number)._replace(depths=depths)
        return found

    def logits(
        self, step: Step, user_texts: Sequence[str], hits: Hits, *, done: Callable[[int], None] | None = None
    ) -> NDArray[np.float32]:
        """A step's logits of the first `depth` places, float32 [n, depth], nan at a pad and for a request of which
        nothing is known (an empty text)."""
        depth = min(step.depth, hits.rows.shape[1])
        logits = np.full((len(hits.rows), depth), np.nan, np.float32)
        known = np.flatnonzero([bool(text) for text in user_texts])
        if len(known):
            texts, part = [user_texts[i] for i in known.tolist()], hits.select(known).head(depth)
            begun = time.perf_counter()
            logits[known] = step.scorer.score_shortlists(texts, self._item_tokens(step), part, depth, done=done)
            step.pace.took(int((part.rows >= 0).sum()), 1_000 * (time.perf_counter() - begun))
        return logits

    def pair_logits(self, user_texts: Sequence[str], pairs: CSR) -> NDArray[np.float32]:
        """The last step's logit of each pair, float32 [n_pairs]: list i holds index rows against user text i."""
        scorer, tokens = self.steps[-1].scorer, self._item_tokens(self.steps[-1])
        return scorer.score_tokenised(scorer.tokenizer.pairs_of_tokens(user_texts, tokens, pairs.owners, pairs.rows))

    def shown_scores(self, reranked: Reranked) -> NDArray[np.float32]:
        """float32 [n, k], never rising from place to place.

        Where a place was reranked, the blended logit of the last step that read it under that model's activation
        (without a blend what `CrossEncoder.predict` gives), else retrieval's score; but no more than the place before,
        for which scores of another kind give way. What stands in front of all that was reranked has no less than that.
        """
        shown = reranked.hits.scores.copy()
        for number, step in enumerate(self.steps):
            of_step = reranked.read_by == number
            logits = reranked.logits[of_step]
            shown[of_step] = sigmoid(logits) if step.scorer.activation == "sigmoid" else logits
        return _never_rising(shown, reranked.read_by >= 0)

    def texts_of(self, rows: NDArray[np.int64]) -> list[str]:
        """The rendered items at rows."""
        return item_texts(self.version.items_at(rows))

    def _item_tokens(self, step: Step) -> TokensByRow:
        return ItemTokens(step.scorer.tokenizer, self.texts_of, step.stored, self.version.as_built)

    def _read(self, batch: HistoryBatch, text_of: Callable[[int], str]) -> Vectors:
        """Histories whose query codes `text_of` knows, see `history_vectors`."""
        if not batch.present.any():
            return np.zeros((len(batch.items), self.version.dim), np.float32)
        asked = np.unique(batch.queries[batch.queries >= 0])
        vectors = self.query_vectors([text_of(code) for code in asked.tolist()]) if len(asked) else None
        codes = np.where(batch.queries >= 0, np.searchsorted(asked, batch.queries), -1)
        rows = np.unique(batch.items[batch.items >= 0])
        items = np.where(batch.items >= 0, np.searchsorted(rows, batch.items), -1)
        return self.user.histories(batch._replace(items=items, queries=codes), self.version.readings_at(rows), vectors)

    @cached_property
    def _remembered(self) -> dict[str, Vectors | None]:
        return {}

    def _titles(self, rows: NDArray[np.int64]) -> list[str]:
        return self.version.values_at("title", rows).to_pylist() if len(rows) else []


def _never_rising(scores: NDArray[np.float32], reranked: Mask) -> NDArray[np.float32]:
    """Scores [n, k] capped by the place before; those in front of the first that was reranked are raised to its own."""
    first = np.take_along_axis(scores, reranked.argmax(axis=1, keepdims=True), axis=1)
    in_front = reranked.any(axis=1, keepdims=True) & (np.cumsum(reranked, axis=1) == 0)
    found: NDArray[np.float32] = np.minimum.accumulate(np.where(in_front, np.maximum(scores, first), scores), axis=1)
    return found


def _reranked(
    before: Reranked, given: Hits, logits: NDArray[np.float32], blend: Blend, fixed: Mask | None, number: int
) -> Reranked:
    """One step on: `logits` [n, depth] are of the first places of `before`, retrieval's scores are those of `given`."""
    depth = min(logits.shape[1], given.rows.shape[1])
    at = before.places[:, :depth]
    scores, *told = (np.take_along_axis(one, at, axis=1) for one in (given.scores, *given.parts.values()))
    blended = blend(logits[:, :depth], scores, dict(zip(given.parts, told, strict=True)))
    if fixed is not None:
        blended[np.take_along_axis(fixed, at, axis=1)] = np.nan
    order = rerank_order(before.hits, blended, depth)
    read = np.isfinite(blended)
    places, shown, read_by = before.places.copy(), before.logits.copy(), before.read_by.copy()
    places[:, :depth] = np.take_along_axis(at, order, axis=1)
    shown[:, :depth] = np.take_along_axis(np.where(read, blended, shown[:, :depth]), order, axis=1)
    read_by[:, :depth] = np.take_along_axis(np.where(read, number, read_by[:, :depth]), order, axis=1)
    return Reranked(Hits(np.take_along_axis(given.rows, places, axis=1), given.scores), shown, places, read_by)
