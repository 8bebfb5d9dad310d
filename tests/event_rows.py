"""Events as rows of names, the data set that they make, and the requests of its split told in names."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

import numpy as np
import pyarrow as pa

from retrieval.data.check_report import CheckReport
from retrieval.data.dataset import DataSet
from retrieval.data.events import Events
from retrieval.data.split import Requests
from retrieval.text.analysis import Language

DAY = 86_400_000_000
START = int(datetime(2024, 1, 1, tzinfo=UTC).timestamp()) * 1_000_000
Row = tuple[str, str, str, int, str | None]  # user, item, event, microseconds, basket


def dataset(rows: Sequence[Row]) -> DataSet:
    """A data set of these events, as `load` would make it."""
    users = tuple(sorted({row[0] for row in rows}))
    items = tuple(sorted({row[1] for row in rows}))
    kinds = tuple(sorted({row[2] for row in rows}))
    baskets = sorted({row[4] for row in rows if row[4] is not None})
    ordered = [row for _, row in sorted(enumerate(rows), key=lambda pair: (pair[1][0], pair[1][3], pair[0]))]
    user = np.array([users.index(row[0]) for row in ordered], np.int32)
    events = Events(
        user=user,
        item=np.array([items.index(row[1]) for row in ordered], np.int32),
        kind=np.array([kinds.index(row[2]) for row in ordered], np.int16),
        time=np.array([row[3] for row in ordered], np.int64),
        query=np.full(len(rows), -1, np.int32),
        basket=np.array([-1 if row[4] is None else baskets.index(row[4]) for row in ordered], np.int32),
        quantity=np.ones(len(rows), np.float32),
        price=np.full(len(rows), np.nan, np.float32),
        rating=np.full(len(rows), np.nan, np.float32),
        offsets=np.searchsorted(user, np.arange(len(users) + 1)).astype(np.int64),
        kinds=kinds,
        query_texts=(),
    )
    return DataSet(
        items=pa.table({"item_id": items, "title": items}),
        item_ids=items,
        user_ids=users,
        events=events,
        queries=None,
        judgements=None,
        report=CheckReport(folder="", files=(), facts={}),
        fingerprint="",
        language=Language("en", ""),
    )


def events_of(data: DataSet) -> Events:
    assert data.events is not None
    return data.events


def told(data: DataSet, requests: Requests) -> list[tuple[str, int, list[str], list[str]]]:
    """User, time, history and targets of each request, in names."""
    events = events_of(data)
    return [
        (
            data.user_ids[requests.user[i]],
            int(requests.time[i]),
            [data.item_ids[row] for row in events.item[events.offsets[requests.user[i]] : requests.end[i]]],
            [data.item_ids[row] for row in requests.targets(i)],
        )
        for i in range(len(requests))
    ]


def bought(user: str, *purchases: str, basket: bool = False) -> list[Row]:
    """A purchase a day; with `basket`, each letter of a purchase is an item of it."""
    return [
        (user, item, "purchase", START + day * DAY, f"{user}{day}" if basket else None)
        for day, items in enumerate(purchases)
        for item in (items if basket else [items])
    ]


def returned(user: str, item: str, day: float) -> Row:
    return (user, item, "return", START + int(day * DAY), None)


def shop(n_users: int, n_days: int, seed: int = 0) -> list[Row]:
    """Baskets at scattered times over `n_days`, of one to three items, with views and a few returns."""
    rng = np.random.default_rng(seed)
    rows: list[Row] = []
    for user in range(n_users):
        for visit in range(int(rng.integers(3, 9))):
            time = START + int(rng.integers(n_days * DAY))
            items = rng.choice(40, int(rng.integers(1, 4)), replace=False)
            rows += [(f"u{user}", f"i{item}", "purchase", time, f"b{user}.{visit}") for item in items]
            rows.append((f"u{user}", f"i{int(rng.integers(40))}", "view", time - 60_000_000, None))
            if rng.random() < 0.2:
                rows.append((f"u{user}", f"i{items[0]}", "return", time + DAY, None))
    return rows
