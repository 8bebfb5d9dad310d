"""Stage 7: the head of each shortlist in the order of the cross-encoder, blended with what retrieval gave."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ranking.models.item_tokens import ItemTokens
from ranking.models.pair_tokens import TokensByRow
from ranking.ordering.blend import Blend
from ranking.ordering.permute import rerank_order
from retrieval.text.rendering import user_text
from retrieval.topk import CSR, Hits, Mask
from serving.answering.batch import Batch, LogitsOf, Ranking
from serving.answering.deadline import MIN_PAIRS, Deadline
from serving.answering.user_context import UserContexts

if TYPE_CHECKING:
    from serving.answering.release_settings import OrderName
    from serving.answering.release_state import ReleaseState
    from serving.answering.rerank_steps import Step


def rank(state: ReleaseState, batch: Batch, deadline: Deadline) -> Batch:
    """Reads `users`, `queries`, `candidates` and `ranker_texts`, writes those where they are None, and `ranking`.

    Nothing is reranked where the task's gate or the request says no, or where nothing is known that could be read.
    """
    if not ranks(state, batch):
        return batch
    texts = ranker_texts(state, batch) if batch.ranker_texts is None else batch.ranker_texts
    batch = batch.having(ranker_texts=texts)
    if not any(texts) or batch.task.order is None:
        return batch
    found = batch.candidates
    return batch.having(
        ranking=rerank(
            state,
            texts,
            found.hits,
            batch.task.order,
            fixed=found.exact,  # what the query names stands first, whatever is thought of it
            logits_of=batch.logits_of,
            left=deadline.left,
        ),
    )


def unranked(state: ReleaseState, batch: Batch, deadline: Deadline) -> Batch:
    """The batch as no cross-encoder has read it."""
    return batch.having(ranking=None, ranker_texts=None)


def ranks(state: ReleaseState, batch: Batch) -> bool:
    """Whether the cross-encoder is asked at all: not where it was blended with a ranker that cannot be asked here."""
    task = batch.task
    if not (batch.rerank and task.gate in state.reranks and state.steps):
        return False
    return state.missing_ranker(task.order, task.gate) is None


def ranker_texts(state: ReleaseState, batch: Batch) -> list[str]:
    """What the cross-encoder reads of each request: the query, then the newest titles; empty where nothing is known."""
    return user_texts(state, batch.users, batch.queries.corrected)


def user_texts(state: ReleaseState, users: UserContexts, queries: Sequence[str]) -> list[str]:
    """See `ranker_texts`; `queries` [n] are empty where nothing is searched for."""
    titles, marked, batch = state.settings.titles, state.settings.field_markers is not None, users.histories
    known = [np.flatnonzero(row >= 0)[::-1][: 4 * titles] for row in batch.items]
    lines = np.repeat(np.arange(len(known)), [len(places) for places in known])
    places = np.concatenate(known) if known else np.empty(0, np.int64)
    named = _titles(state, batch.items[lines, places])
    kinds = ("", *users.kinds)
    done = [kinds[code] for code in batch.kinds[lines, places].tolist()] if marked else None
    texts, start = [], 0
    for own, query in zip(known, queries, strict=True):
        part = slice(start, start + len(own))
        texts.append(user_text(named[part], query or None, limit=titles, kinds=None if done is None else done[part]))
        start += len(own)
    return texts


def rerank(
    state: ReleaseState,
    texts: Sequence[str],
    hits: Hits,
    order: OrderName,
    *,
    fixed: Mask | None = None,
    logits_of: LogitsOf | None = None,
    left: Callable[[], float] | None = None,
) -> Ranking:
    """The shortlists in the order of the steps' blended logits; what has none keeps its place.

    `texts` [n] stand for the requests, see `ranker_texts`. `fixed` bool [n, k] are places that stay. `logits_of` in
    place of the steps' own models: logits that are known already. `left` tells how many milliseconds are left: a step
    reads no more places than fit, and none where those are fewer than MIN_PAIRS.
    """
    shape, places = hits.rows.shape, np.arange(hits.rows.shape[1])
    found = Ranking(hits, np.full(shape, np.nan, np.float32), np.broadcast_to(places, shape), np.full(shape, -1))
    for number, planned in enumerate(state.steps):
        step = planned
        if left is not None:
            step = replace(step, depth=min(step.depth, step.latency.pairs_within(left()), *found.depths))
        if left is not None and step.depth < MIN_PAIRS:
            found = found._replace(depths=(*found.depths, 0))
            continue
        logits = step_logits(state, step, texts, found.hits) if logits_of is None else logits_of(step, found.hits)
        depths = (*found.depths, step.depth)
        found = _after_step(found, hits, logits, step.blend(order), fixed, number)._replace(depths=depths)
    return found


def step_logits(
    state: ReleaseState, step: Step, texts: Sequence[str], hits: Hits, *, done: Callable[[int], None] | None = None
) -> NDArray[np.float32]:
    """A step's logits of the first `depth` places, float32 [n, depth], nan at a pad and for a request of which nothing
    is known (an empty text)."""
    depth = min(step.depth, hits.rows.shape[1])
    logits = np.full((len(hits.rows), depth), np.nan, np.float32)
    known = np.flatnonzero([bool(text) for text in texts])
    if len(known):
        read, part = [texts[i] for i in known.tolist()], hits.select(known).head(depth)
        begun = time.perf_counter()
        logits[known] = step.scorer.score_shortlists(read, _item_tokens(state, step), part, depth, done=done)
        step.latency.observe(int((part.rows >= 0).sum()), 1_000 * (time.perf_counter() - begun))
    return logits


def pair_logits(state: ReleaseState, texts: Sequence[str], pairs: CSR) -> NDArray[np.float32]:
    """The last step's logit of each pair, float32 [n_pairs]: list i holds index rows against text i."""
    step = state.steps[-1]
    tokens = step.scorer.tokenizer.pairs_of_tokens(texts, _item_tokens(state, step), pairs.owners, pairs.rows)
    return step.scorer.score_tokenised(tokens)


def _item_tokens(state: ReleaseState, step: Step) -> TokensByRow:
    return ItemTokens(step.scorer.tokenizer, state.item_texts, step.stored, state.version.as_built)


def _titles(state: ReleaseState, rows: NDArray[np.int64]) -> list[str]:
    return state.version.values_at("title", rows).to_pylist() if len(rows) else []


def _after_step(
    before: Ranking, given: Hits, logits: NDArray[np.float32], blend: Blend, fixed: Mask | None, number: int
) -> Ranking:
    """One step on: `logits` [n, depth] are of the first places of `before`, retrieval's scores are those of `given`."""
    depth = min(logits.shape[1], given.rows.shape[1])
    at = before.places[:, :depth]
    scores, *parts = (np.take_along_axis(one, at, axis=1) for one in (given.scores, *given.parts.values()))
    blended = blend(logits[:, :depth], scores, dict(zip(given.parts, parts, strict=True)))
    if fixed is not None:
        blended[np.take_along_axis(fixed, at, axis=1)] = np.nan
    order = rerank_order(before.hits, blended, depth)
    read = np.isfinite(blended)
    places, shown, read_by = before.places.copy(), before.logits.copy(), before.read_by.copy()
    places[:, :depth] = np.take_along_axis(at, order, axis=1)
    shown[:, :depth] = np.take_along_axis(np.where(read, blended, shown[:, :depth]), order, axis=1)
    read_by[:, :depth] = np.take_along_axis(np.where(read, number, read_by[:, :depth]), order, axis=1)
    return Ranking(Hits(np.take_along_axis(given.rows, places, axis=1), given.scores), shown, places, read_by)
