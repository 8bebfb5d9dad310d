"""What a release knows of items and of shoppers, for people who look at it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from retrieval.data.time_units import SECOND

if TYPE_CHECKING:
    from serving.answering.release_state import ReleaseState

MOST_SCANNED = 100_000  # ids that are looked through for a prefix


class PastEvent(NamedTuple):
    """Something that a shopper did."""

    item_id: str  # empty: a search
    title: str
    event: str  # its kind, as in the data; empty: one that the release does not know
    time: float  # seconds since 1970, UTC
    query: str = ""  # what was searched for


def items_of(state: ReleaseState, item_ids: Sequence[str]) -> list[dict[str, Any]]:
    """Every attribute of items, by name, in the order of the ids; unknown ones are left out."""
    rows = state.version.rows_of(list(item_ids))
    found: list[dict[str, Any]] = state.version.items_at(rows[rows >= 0]).to_pylist()
    return found


def history_of(state: ReleaseState, user_id: str, most: int) -> list[PastEvent]:
    """The newest events of a shopper, newest first, with what was recorded since the release's data; empty for one who
    is not known."""
    own, texts = state.user_contexts.timeline_of(user_id)
    last = slice(max(0, len(own.item) - most), None)
    rows = own.item[last].astype(np.int64)
    known = np.flatnonzero(rows >= 0)
    about = dict(
        zip(
            known.tolist(),
            zip(
                state.version.ids_of(rows[known]),
                state.version.values_at("title", rows[known]).to_pylist(),
                strict=True,
            ),
            strict=True,
        )
    )
    found = []
    for at, (kind, query, time) in enumerate(
        zip(own.kind[last].tolist(), own.query[last].tolist(), own.time[last].tolist(), strict=True)
    ):
        item_id, title = about.get(at, ("", ""))
        name = own.kinds[kind] if kind >= 0 else ""
        found.append(PastEvent(item_id, title, name, time / SECOND, texts[query] if query >= 0 else ""))
    return found[::-1]


def users_with(state: ReleaseState, prefix: str, most: int) -> list[str]:
    """Ids of shoppers of the release that begin with a text, the shortest first."""
    ids = state.user_store.user_ids.slice(0, MOST_SCANNED).to_pylist()
    return sorted((user_id for user_id in ids if user_id.startswith(prefix)), key=lambda one: (len(one), one))[:most]
