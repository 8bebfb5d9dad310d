"""What a store holds, as the jobs read it: its events beside those of a data set, and who is forgotten."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from retrieval.data.recorded import NEVER, RecordedEvents
from retrieval.fingerprint import fingerprint
from serving.live.events import RecordedEvent
from serving.live.store import EventStore, user_hash

AT_ONCE = 50_000  # events that are read from a store at once
TYPES = {
    "user_id": pa.string(),
    "item_id": pa.string(),
    "event": pa.string(),
    "timestamp": pa.timestamp("us", "UTC"),
    "quantity": pa.float64(),
    "price": pa.float64(),
    "basket_id": pa.string(),
    "query": pa.string(),
    "rating": pa.float64(),
}  # columns of events.parquet


def exported(store: EventStore, *, events: bool = True) -> RecordedEvents | None:
    """What a store holds now; None where nothing was ever stored. Without `events` only who is forgotten."""
    if not store.exists():
        return None
    identity, forgotten, position, ids, parts = store.identity(), dict(store.forgotten()), 0, list[str](), []
    while events and (found := store.since(position, AT_ONCE)):
        parts.append(_table([stored.event for stored in found]))
        ids += [stored.event.event_id for stored in found]
        position = found[-1].position
    return RecordedEvents(
        place=store.place,
        store=identity,
        position=position,
        table=pa.concat_tables(parts) if parts else None,
        forgotten_at=partial(_forgotten_at, identity, forgotten),
        fingerprint=fingerprint(ids, sorted(forgotten.items())),
    )


def _table(events: Sequence[RecordedEvent]) -> pa.Table:
    columns = dict(zip(RecordedEvent._fields, zip(*events, strict=True), strict=True))
    columns["timestamp"] = columns["time"]
    return pa.table({name: pa.array(columns[name], kind) for name, kind in TYPES.items()})


def _forgotten_at(identity: str, forgotten: Mapping[str, int], user_ids: Sequence[str]) -> NDArray[np.int64]:
    times = (forgotten.get(user_hash(identity, user), NEVER) for user in user_ids) if forgotten else ()
    return np.fromiter(times, np.int64) if forgotten else np.full(len(user_ids), NEVER, np.int64)
