"""What of a request moved the scores of its hits: each item of the history and each word of the query left out, once.

All of it is one batch of requests through the stages that score; the candidates stay the same. The score is that which
ordered them before the cross-encoder: of the feature ranker where it is on, else the weighted sum of the sources.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from retrieval.text.analysis.rules import SIGN, spans
from retrieval.topk import CSR, Hits, Rows, Scores
from serving.answering.batch import Batch, Queries
from serving.answering.deadline import Deadline
from serving.answering.retriever import Candidates
from serving.answering.stages.encode import encode
from serving.answering.stages.rank import pair_logits, user_texts
from serving.answering.stages.read_user import LiveRequests
from serving.answering.stages.score import read_features

if TYPE_CHECKING:
    from serving.answering.release_state import ReleaseState

NEWEST_ITEMS, NEAREST_ITEMS, FIRST_WORDS = 4, 4, 8  # that are left out: each costs a request


@dataclass(frozen=True)
class Effects:
    """The score of each hit less its score without one cause: of each of `items`, int64 [e] rows of the history, and of
    each of `words` of the query, float32 [m, e] and [m, w]. The same of the cross-encoder's logits, nan for a hit that
    it did not read; None where that is not asked for."""

    items: Rows
    words: Sequence[str]
    of_items: Scores
    of_words: Scores
    logits_of_items: Scores | None = None
    logits_of_words: Scores | None = None


class Word(NamedTuple):
    """A word or a measure of a query, from `start` to before `end`."""

    text: str
    start: int
    end: int
    unspaced: bool  # of a script without spaces between words


def leave_one_out(state: ReleaseState, batch: Batch, line: int, shown: NDArray[np.int64]) -> Effects:
    """The effects on the hits of one request that stand at the places `shown`, int64 [m], of the order."""
    order, query = batch.order, batch.queries.corrected[line]
    assert order is not None, "hits are explained once they are in order"
    items, words = _history_items(state, batch, line, order.rows[line, shown]), query_words(query)[:FIRST_WORDS]
    words = words if len(words) > 1 else []  # without its only word it is another task
    if batch.task.order is None or not (len(items) or words):
        nothing = np.zeros((len(shown), 0), np.float32)
        return Effects(items[:0], (), nothing, nothing)
    changed = _changed(state, batch, line, items, words)
    scores = _scores(state, changed, order.places[line, shown])
    lost, n, said = scores[:1] - scores[1:], len(items), [word.text for word in words]
    found = Effects(items, said, lost[:n].T, lost[n:].T)
    if batch.explain != "full" or batch.ranking is None:
        return found
    logits = _logits(state, changed, order.rows[line, shown])
    lost = np.where(batch.ranking.read(line, order.places[line, shown]), logits[:1] - logits[1:], np.nan)
    return replace(found, logits_of_items=lost[:n].T, logits_of_words=lost[n:].T)


def query_words(text: str) -> list[Word]:
    """The words and measures of a query in their order; of scripts without spaces two signs at a time.

    >>> [word.text for word in query_words("Oak shelf, 120 cm")], [word.text for word in query_words("红色连衣裙")]
    (['Oak', 'shelf', '120 cm'], ['红色', '连衣', '裙'])
    """
    lower = text.lower()
    found = []
    for rule, start, end in spans(lower if len(lower) == len(text) else text):
        edges = [start, end]
        if rule.name == "unspaced":
            edges = [*[start + sign.start() for sign in SIGN.finditer(text[start:end])][::2], end]
        found += [Word(text[left:right], left, right, rule.name == "unspaced") for left, right in pairwise(edges)]
    return found


def _history_items(state: ReleaseState, batch: Batch, line: int, hits: Rows) -> Rows:
    """Items of a history, each once, the newest first: the newest, those that are hits, and of the others those whose
    vectors are nearest to those of hits."""
    of_line = batch.users.events.items.select(np.array([line])).rows[::-1]
    distinct = of_line[np.sort(np.unique(of_line, return_index=True)[1])]
    older = distinct[NEWEST_ITEMS:]
    if not len(older) or not len(hits):
        return distinct
    near = (state.version.vectors_at(older) @ state.version.vectors_at(hits).T).max(axis=1)
    nearest = np.sort(np.argsort(-near, kind="stable")[:NEAREST_ITEMS])
    chosen = np.isin(older, hits)
    chosen[nearest] = True
    return np.concatenate([distinct[:NEWEST_ITEMS], older[chosen]])


def _changed(state: ReleaseState, batch: Batch, line: int, items: Rows, words: Sequence[Word]) -> Batch:
    """The request as it is, without each item, and without each word: a batch with the candidates of the request."""
    assert isinstance(batch.requests, LiveRequests), "requests of the past are not explained"
    n, nothing = 1 + len(items) + len(words), np.empty(0, np.int64)
    left_out = [nothing, *(np.array([row]) for row in items.tolist()), *[nothing] * len(words)]
    typed, corrected = batch.queries.typed[line], batch.queries.corrected[line]
    shorter = [(corrected[: word.start] + corrected[word.end :]).strip() for word in words]
    same = n - len(words)
    changed = batch.having(
        users=state.user_contexts.without(batch.requests.requests[line], left_out),
        queries=Queries([typed] * same + shorter, [corrected] * same + shorter, [""] * n),
    )
    changed = encode(state, changed, Deadline(None))
    rows = batch.candidates.hits.rows[line]
    hits = Hits(np.tile(rows[rows >= 0], (n, 1)), np.zeros((n, int((rows >= 0).sum())), np.float32))
    behaviour = changed.users.behaviour._replace(queries=changed.queries.corrected)
    fusion = state.retriever.fusion(batch.task.order)  # type: ignore[arg-type]
    parts = state.retriever.score_hits(changed.vectors, behaviour, hits, fusion.sources)
    return changed.having(candidates=Candidates(Hits(hits.rows, fusion(parts), parts), {}))


def _scores(state: ReleaseState, changed: Batch, places: NDArray[np.int64]) -> Scores:
    """The scores of the candidates at `places` int64 [m] for each of n requests, float32 [n, m]."""
    if changed.scored is None:
        return changed.candidates.hits.scores[:, places]
    ranker = changed.scored.ranker
    features, fused = read_features(state, changed, state.feature_reader(ranker), places)
    return ranker.score(features.reshape(-1, features.shape[2]), fused.ravel()).reshape(fused.shape)


def _logits(state: ReleaseState, changed: Batch, rows: Rows) -> Scores:
    """The logits of the last step's cross-encoder of `rows` int64 [m] for each of n requests, float32 [n, m]."""
    texts = user_texts(state, changed.users, changed.queries.corrected)
    pairs = CSR.from_lists([rows] * len(texts))
    return pair_logits(state, texts, pairs).reshape(len(texts), len(rows))
