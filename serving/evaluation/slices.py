"""Slices of an evaluation: the requests, or the targets among them, on which orders differ most."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from retrieval.data.events import Events
from retrieval.data.requests import Requests
from retrieval.metrics.ranking import Counts
from retrieval.text.typos import misspelt_query
from retrieval.topk import CSR, Mask
from serving.shop import Shop


def request_slices(
    events: Events, requests: Requests, targets: CSR, counts: Counts, taken: CSR | None = None
) -> dict[str, Mask]:
    """Which of the targets belong to each slice of recommendation, bool [n_targets] by name.

    `no_history`: of requests of shoppers of whom nothing is known, where there are any. `one_event`: of those with a
    history of exactly one event. `new_items`: items that were never a target in
    training (`counts` int64 [n_items]). Where `taken` lists what each shopper had taken before, and some of that is
    taken again: `repeats`, and `explore` for all else.
    """
    lengths = requests.end - events.offsets[requests.user]
    cold = lengths[targets.owners] == 0
    slices = {"no_history": cold} if cold.any() else {}
    slices |= {"one_event": lengths[targets.owners] == 1, "new_items": counts[targets.rows] == 0}
    if taken is not None and (again := targets.listed_in(taken)).any():
        slices |= {"repeats": again, "explore": ~again}
    return slices


def noisy_queries(shop: Shop, queries: NDArray[np.integer]) -> list[str]:
    """The texts of queries as typed in haste, which depends on the query's id alone."""
    assert shop.data.queries is not None
    ids: Sequence[str] = shop.data.queries.ids
    return [_noisy(text, ids[query]) for text, query in zip(shop.query_texts(queries), queries, strict=True)]


def _noisy(text: str, query_id: str) -> str:
    seed = int.from_bytes(hashlib.blake2b(query_id.encode(), digest_size=8, person=b"shortlist-slip").digest(), "big")
    return misspelt_query(text, np.random.default_rng(seed))
