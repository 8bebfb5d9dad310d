"""Stage 11: answers in words: ids, titles, sources, what stood in for what was missing, what the deadline cut."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from retrieval.topk import Rows
from serving.answering.batch import NOT_EXPLAINED, Batch, Order
from serving.answering.deadline import Deadline
from serving.request import CROSS_ENCODER, FEATURES, Answer, Hit

if TYPE_CHECKING:
    from serving.answering.release_state import ReleaseState

POPULAR = "popular items"  # nothing is known of who asks, and nothing is asked for
CATALOGUE = "items in the order of the catalogue"  # the same, and nothing is known to be popular
QUERY_ALONE = "the query alone"  # a shopper or a history is named, and nothing is known of it
KNOWN_ITEMS = "the known items of the history"  # others of it are not in the index
RECOMMENDATION = "a recommendation"  # the query is empty
SOURCES = "the order of the sources"  # that by features cannot be made here; what to install follows
FEWER = "all items that may be answered"  # they are fewer than k


def describe(state: ReleaseState, batch: Batch, deadline: Deadline) -> Batch:
    """Reads all that the stages before wrote, writes `answers`."""
    order = batch.order
    assert order is not None, "describe comes after arrange"
    stood_in = fallbacks_of(state, batch)
    answers = (_answer(state, batch, order, line, stood_in[line], deadline) for line in range(len(batch)))
    return batch.having(answers=tuple(answers))


def _answer(
    state: ReleaseState, batch: Batch, order: Order, line: int, stood_in: tuple[str, ...], deadline: Deadline
) -> Answer:
    rows, queries = order.rows[line], batch.queries
    typed, corrected, meant = queries.typed[line], queries.corrected[line], queries.meant[line]
    kept = order.shown(line, batch.k)
    ids, titles = state.version.ids_of(rows[kept]), state.version.values_at("title", rows[kept]).to_pylist()
    sources = [batch.candidates.sources_of(line, place) for place in order.places[line][kept].tolist()]
    ranks = [place + 1 for place in order.retrieval_places[line][kept].tolist()]
    columns = [ids, titles, order.scores[line][kept].tolist(), ranks, sources]
    explained = batch.explained[line] if batch.explain else [NOT_EXPLAINED] * len(kept)
    columns.append([one.contributions for one in explained])
    columns.append(list(_variants(state, batch, line, rows[kept])))
    columns.append([one.explanation for one in explained])
    columns.append([_rules(batch, line, row) for row in rows[kept].tolist()])
    items = tuple(Hit(*column) for column in zip(*columns, strict=True))
    return Answer(
        items,
        state.release.id,
        fallbacks=(*stood_in, *((FEWER,) if len(items) < batch.k else ())),
        reranked=tuple(_decided(batch, line)),
        timings_ms=deadline.timings_ms,
        index_revision=state.version.revision,
        degraded=(*batch.degraded, *_cut(state, batch, line)),
        corrected_query="" if meant or corrected == typed else corrected,
        also_searched=meant,
        rules="" if batch.rules is None else batch.rules.version,
    )


def _rules(batch: Batch, line: int, row: int) -> tuple[str, ...]:
    """The names of the rules that moved or placed an item."""
    effects = batch.rule_effects
    return () if effects is None else tuple(effect.rule for effect in effects.of(line, row))


def _variants(state: ReleaseState, batch: Batch, line: int, rows: Rows) -> Iterator[tuple[str, ...]]:
    """Of each answered row the ids of the others of its group that may be answered."""
    groups = state.version.groups if batch.one_per_group else None
    if groups is None:
        yield from ((),) * len(rows)
        return
    allowed, exclude = state.version.answerable(batch.allowed), batch.exclude
    left_out = None if exclude is None else exclude.rows[exclude.indptr[line] : exclude.indptr[line + 1]]
    for row in rows.tolist():
        others = groups.variants(row)
        others = others if allowed is None else others[allowed[others]]
        yield tuple(state.version.ids_of(others if left_out is None else np.setdiff1d(others, left_out)))


def _decided(batch: Batch, line: int) -> Iterator[str]:
    """What changed the order that retrieval gave."""
    if batch.scored is not None and batch.vectors[line].any():
        yield FEATURES
    if batch.ranking is not None and any(batch.ranking.depths) and _read(batch, line):
        yield CROSS_ENCODER


def _read(batch: Batch, line: int) -> bool:
    """Whether the cross-encoder was given anything to read of a request."""
    return batch.ranker_texts is not None and bool(batch.ranker_texts[line])


def fallbacks_of(state: ReleaseState, batch: Batch) -> list[tuple[str, ...]]:
    """What stood in for what was missing, of each request, but for FEWER."""
    users, asked = batch.users, batch.queries.typed
    missing = state.missing_ranker(batch.task.order, batch.task.gate) if batch.rerank else None
    of_all = () if missing is None else (f"{SOURCES} ({missing})",)
    of_all = (*of_all, RECOMMENDATION) if batch.query_is_empty else of_all
    popular = POPULAR if state.retriever.popularity.any() else CATALOGUE
    known: list[bool] = np.any(users.histories.readable, axis=1).tolist()
    lines = zip(known, users.unknown.tolist(), users.named.tolist(), asked, strict=True)
    return [(*of_all, *_stood_in(popular, *line)) for line in lines]


def _stood_in(popular: str, known: bool, unknown_items: int, named: bool, text: str) -> tuple[str, ...]:
    if known:
        return (KNOWN_ITEMS,) if unknown_items else ()
    if not text:
        return (popular,)
    return (QUERY_ALONE,) if named else ()


def _cut(state: ReleaseState, batch: Batch, line: int) -> Iterator[str]:
    """What steps of reranking had no time to read."""
    if batch.ranking is None or not _read(batch, line):
        return
    candidates = int((batch.candidates.hits.rows[line] >= 0).sum())
    for step, depth in zip(state.steps, batch.ranking.depths, strict=True):
        wanted = min(step.depth, candidates)
        if depth < wanted:
            yield f"rerank, {step.model} model: {depth} of {wanted} places"
