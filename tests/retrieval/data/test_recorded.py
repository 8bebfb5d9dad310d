"""Recorded events are read beside a data set's own; what is to be forgotten is read from neither."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from retrieval.data.dataset import DataSet, load
from retrieval.data.recorded import NEVER, RecordedEvents

TYPES = {"user_id": pa.string(), "item_id": pa.string(), "event": pa.string(), "timestamp": pa.timestamp("us", "UTC")}
MINUTE = 60_000_000
BEGIN = 1_700_000_000_000_000
Row = tuple[str, str, str, float]  # user, item, kind, minutes


def table(rows: Sequence[Row], queries: Sequence[str | None] | None = None) -> pa.Table:
    columns = list(zip(*rows, strict=True))
    columns[3] = [BEGIN + round(minutes * MINUTE) for minutes in columns[3]]
    made = pa.table({name: pa.array(column, kind) for (name, kind), column in zip(TYPES.items(), columns, strict=True)})
    return made if queries is None else made.append_column("query", pa.array(queries, pa.string()))


def recorded(
    rows: Sequence[Row], forgotten: Mapping[str, float] | None = None, fingerprint: str = ""
) -> RecordedEvents:
    def forgotten_at(users: Sequence[str]) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
        times = forgotten or {}
        return np.array([BEGIN + round(times[user] * MINUTE) if user in times else NEVER for user in users], np.int64)

    events = table(rows) if rows else None
    return RecordedEvents(
        place="store", store="s", position=9, table=events, forgotten_at=forgotten_at, fingerprint=fingerprint
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    items = pa.table({"item_id": ["mug", "cup"], "title": ["A red mug", "A blue cup"]})
    pq.write_table(items, tmp_path / "items.parquet")
    rows = [("ann", "mug", "view", 0), ("ann", "mug", "buy", 1), ("bob", "cup", "buy", 2)]
    pq.write_table(table(rows, ["red mug", None, "cup"]), tmp_path / "events.parquet")
    return tmp_path


def read(folder: Path, given: RecordedEvents | None) -> DataSet:
    return load(folder, now=datetime(2026, 1, 1, tzinfo=UTC), recorded=given)


def rows_of(data: DataSet) -> list[Row]:
    events = data.events
    assert events is not None
    return [
        (data.user_ids[user], data.item_ids[item], events.kinds[kind], (time - BEGIN) / MINUTE)
        for user, item, kind, time in zip(events.user, events.item, events.kind, events.time, strict=True)
    ]


def test_recorded_events_join_those_of_the_file(folder: Path) -> None:
    data = read(folder, recorded([("ann", "cup", "buy", 0.5), ("cem", "mug", "return", 3)]))
    assert rows_of(data) == [
        ("ann", "mug", "view", 0),
        ("ann", "cup", "buy", 0.5),
        ("ann", "mug", "buy", 1),
        ("bob", "cup", "buy", 2),
        ("cem", "mug", "return", 3),
    ]
    assert data.recorded is not None
    assert [file.path for file in data.report.files][-1] == "store"


def test_an_event_that_the_file_holds_counts_once(folder: Path) -> None:
    half, two = 0.5 / 60, 2 / 60  # seconds
    data = read(
        folder,
        recorded([("ann", "mug", "buy", 1 + half), ("bob", "cup", "buy", 2 - half), ("ann", "mug", "buy", 1 + two)]),
    )
    assert len(rows_of(data)) == 4
    assert "2 recorded events are in events.parquet already, and count once" in data.report.notes


def test_an_unknown_item_is_counted_in_the_report_and_refuses_nothing(folder: Path) -> None:
    data = read(folder, recorded([("ann", "no such item", "buy", 5)] * 50))
    assert len(rows_of(data)) == 3
    assert data.report.files[-1].unknown == 50


def test_what_a_forgotten_user_did_is_left_out_of_file_and_store(folder: Path) -> None:
    data = read(folder, recorded([("ann", "cup", "buy", 3), ("ann", "cup", "buy", 8)], {"ann": 5, "bob": 9}))
    assert rows_of(data) == [("ann", "cup", "buy", 8)]
    assert data.user_ids == ("ann",)
    assert data.events is not None
    assert data.events.query_texts == ()  # nobody else asked them
    assert "4 events of users who are to be forgotten are left out" in data.report.notes


def test_who_is_forgotten_counts_without_recorded_events(folder: Path) -> None:
    data = read(folder, recorded([], {"ann": 5}))
    assert rows_of(data) == [("bob", "cup", "buy", 2)]
    assert data.user_ids == ("bob",)
    assert data.events is not None
    assert data.events.query_texts == ("cup",)
    assert (data.events.query >= 0).all()


def test_recorded_events_alone_are_a_data_set(folder: Path) -> None:
    (folder / "events.parquet").unlink()
    assert rows_of(read(folder, recorded([("ann", "mug", "buy", 1)]))) == [("ann", "mug", "buy", 1)]


def test_the_fingerprint_tells_what_was_recorded(folder: Path) -> None:
    prints = {read(folder, given).fingerprint for given in (None, recorded([], None, "a"), recorded([], None, "b"))}
    assert len(prints) == 3
