"""Whether two batches of users are read alike, however far their histories are padded."""

from __future__ import annotations

import numpy as np

from retrieval.data.timeline import HistoryBatch
from retrieval.topk import CSR
from serving.answering.user_context import UserContexts


def lists_of(lists: CSR) -> list[list[int]]:
    return [part.tolist() for part in np.split(lists.rows, lists.indptr[1:-1])] if lists.n_lists else []


def events_read(histories: HistoryBatch) -> list[list[tuple[int, ...]]]:
    """Item, query, kind and gap of the events of each history, oldest first; padding holds nothing."""
    absent = ~histories.present
    assert (histories.items[absent] == -1).all()
    assert (histories.queries[absent] == -1).all()
    columns = np.stack([histories.items, histories.queries, histories.kinds, histories.gaps], axis=-1)
    pairs = zip(columns, histories.present, strict=True)
    return [[tuple(event) for event in line[present].tolist()] for line, present in pairs]


def assert_same_contexts(found: UserContexts, wanted: UserContexts) -> None:
    assert events_read(found.histories) == events_read(wanted.histories)
    for name in ("history", "taken", "browsed", "carted"):
        assert lists_of(getattr(found.behaviour, name)) == lists_of(getattr(wanted.behaviour, name)), name
    assert found.behaviour.day.tolist() == wanted.behaviour.day.tolist()
    assert list(found.behaviour.queries) == list(wanted.behaviour.queries)
    assert lists_of(found.taken) == lists_of(wanted.taken)
    assert lists_of(found.given) == lists_of(wanted.given)
    assert found.gap.tolist() == wanted.gap.tolist()
    assert found.unknown.tolist() == wanted.unknown.tolist()
    assert found.named.tolist() == wanted.named.tolist()
    assert (found.kinds, tuple(found.query_texts)) == (wanted.kinds, tuple(wanted.query_texts))
