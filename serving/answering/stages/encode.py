"""Stage 3: one vector for each request, in the items' space."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from retrieval.data.timeline import QUERY_KIND, HistoryBatch
from retrieval.topk import Vectors
from serving.answering.batch import Batch
from serving.answering.deadline import Deadline
from serving.answering.user_context import UserContexts

if TYPE_CHECKING:
    from serving.answering.release_state import ReleaseState

ALIKE = 128  # histories that are read at once, of about the same length: few are as long as the longest
LONGER = 1.3  # times the shortest history of a part, one event aside, that its longest may be


def encode(state: ReleaseState, batch: Batch, deadline: Deadline) -> Batch:
    """Reads `users` and `queries`, writes `vectors`: of the content of given items for a task that asks by content,
    else of the query leaning towards the history, or of either alone."""
    if batch.task.by_content:
        vectors = content_vectors(state, batch.users)
    elif any(batch.queries.corrected):
        vectors = query_user_vectors(state, batch.users, batch.queries.corrected)
    else:
        vectors = history_vectors(state, batch.users)
    return batch.having(vectors=vectors)


def without_vectors(state: ReleaseState, batch: Batch, deadline: Deadline) -> Batch | None:
    """The batch with vectors of zero, for which the other sources and what is popular are answered; None where no text
    and no history would be read."""
    if not (batch.users.histories.present.any() or batch.users.given.rows.size or any(batch.queries.corrected)):
        return None
    return batch.having(vectors=np.zeros((len(batch), state.version.dim), np.float32))


def reads_new_text(state: ReleaseState, batch: Batch) -> bool:
    """Whether the text encoder has to run: a query is not remembered."""
    return not state.query_vectors.holds(batch.queries.corrected)


def history_vectors(state: ReleaseState, users: UserContexts) -> Vectors:
    """float32 [n, index_dim] of histories; zero for an empty one."""
    return _read_histories(state, users.histories, users.query_texts.__getitem__)


def query_user_vectors(state: ReleaseState, users: UserContexts, queries: Sequence[str]) -> Vectors:
    """float32 [n, index_dim] of queries leaning towards their users' histories. Where the towers read a query as an
    event, it is the newest of the history, as long after the one before as the user waited."""
    known, tower, history = users.query_texts, state.user_tower, users.histories
    vectors = state.query_vectors.of(queries)
    if not history.present.any():
        return tower.combine(vectors, np.zeros_like(vectors))
    if tower.config.query_as_event:
        kind = 1 + tower.config.kinds.index(QUERY_KIND)
        history = history.with_query(len(known) + np.arange(len(queries)), kind, users.gap)
    read = _read_histories(
        state, history, lambda code: known[code] if code < len(known) else queries[code - len(known)]
    )
    return tower.combine(vectors, read)


def content_vectors(state: ReleaseState, users: UserContexts) -> Vectors:
    """float32 [n, index_dim]: the sum of what the given items of each request are; zero where none is known."""
    vectors = np.zeros((users.given.n_lists, state.version.dim), np.float32)
    dim, given = state.user_tower.config.dim, users.given
    np.add.at(vectors[:, :dim], given.owners, state.version.vectors_at(given.rows)[:, :dim])
    return vectors


def _read_histories(state: ReleaseState, batch: HistoryBatch, text_of: Callable[[int], str]) -> Vectors:
    """Histories whose query codes `text_of` knows, float32 [n, index_dim]."""
    if not batch.present.any():
        return np.zeros((len(batch.items), state.version.dim), np.float32)
    asked = np.unique(batch.queries[batch.queries >= 0])
    vectors = state.query_vectors.of([text_of(code) for code in asked.tolist()]) if len(asked) else None
    codes = np.where(batch.queries >= 0, np.searchsorted(asked, batch.queries), -1)
    rows = np.unique(batch.items[batch.items >= 0])
    items = np.where(batch.items >= 0, np.searchsorted(rows, batch.items), -1)
    coded = batch._replace(items=items, queries=codes)
    readings, tower = state.version.readings_at(rows), state.user_tower
    if len(coded.items) <= ALIKE:
        return tower.histories(coded, readings, vectors)
    found = np.zeros((len(coded.items), state.version.dim), np.float32)
    for part in _by_length(coded):
        width = max(1, int(coded.present[part].sum(axis=1).max()))
        newest = coded.each(lambda column, part=part, width=width: column[part][:, -width:])  # type: ignore[misc]
        found[part] = tower.histories(newest, readings, vectors)
    return found


def _by_length(batch: HistoryBatch) -> list[NDArray[np.int64]]:
    """The lines of a batch in parts of at most ALIKE, those of about the same length together: what pads the shorter
    ones of a part takes as long to read as events."""
    sizes = batch.present.sum(axis=1)
    order = np.argsort(sizes, kind="stable")
    cuts, begin = [], 0
    for at, size in enumerate(sizes[order].tolist()):
        if at - begin >= ALIKE or size > LONGER * sizes[order[begin]] + 1:
            cuts.append(at)
            begin = at
    return np.split(order, cuts)
