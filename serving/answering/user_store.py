"""What the engine knows of its shoppers: each one's events, kept apart from the index so that either can be rebuilt."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from indexing.bundle.atomic_files import write_array
from indexing.version.hash_index import HashIndex, hash_keys, rows_of
from indexing.version.index_version import IndexVersion
from indexing.version.item_columns import read_table, write_table
from ranking.features.facts import ItemFigures, item_figures
from retrieval.data.dataset import DataSet
from retrieval.data.relations import ACCESSORY, COMPLEMENT, SUBSTITUTE, SYNONYM
from retrieval.data.requests import group_targets
from retrieval.data.time_units import DAY
from retrieval.data.timeline import Timeline
from retrieval.encoders.text_encoder import read_json
from retrieval.errors import BadBundle
from retrieval.fingerprint import array_sha256, fingerprint
from retrieval.sources.cooccurrence import LONGEST, NEIGHBOURS, cooccurrence, right_after, same_basket
from retrieval.sources.recent import RECENT_DAYS, SHRINKAGE, RecentCoOccurrence
from retrieval.topk import CSR

if TYPE_CHECKING:
    from scipy.sparse import csr_array

ARRAYS = ("item", "query", "kind", "time", "offsets")
OF_USERS = (*(f"{name}.npy" for name in ARRAYS), "users.arrow", "queries.arrow")  # files that tell shoppers apart
SIMILARITIES = ("together", "lately", "after", "baskets", "completes", "replaces")  # see UserStore
PARTS = ("{}", "{}_rows", "{}_indptr")  # files of a similarity: values, their columns, where each item's begin
TOGETHERNESS = (RECENT_DAYS, SHRINKAGE, NEIGHBOURS, LONGEST, "right after", "figures", "baskets")  # decides the rest


@dataclass(frozen=True)
class UserStore:
    """What is known of users as of the build of a release, over the rows of one index version.

    `timeline` holds every user's events, `popularity` float32 [n_items] counts the target events of each item.
    `similarities` read a sparse float32 [n_items, n_items] of what goes with what: `together` of
    `retrieval.sources.cooccurrence`, `after` of `right_after`, `lately` of `RecentCoOccurrence` on the day after the
    last event, `baskets` of `same_basket`, where there are baskets, and `completes` and `replaces`, which are 1 where
    the shop relates items so. Events of items that the index lacks are read as absent. `figures` are what training
    events say of items; `dated` tells whether times are dates that all users share.
    """

    timeline: Timeline
    user_ids: pa.ChunkedArray
    query_texts: tuple[str, ...]
    popularity: NDArray[np.float32]
    lookup: HashIndex
    figures: ItemFigures
    similarities: Mapping[str, Callable[[], csr_array]] = field(default_factory=dict)
    dated: bool = True

    def code(self, user_id: str) -> int | None:
        """The position of a shopper in the timeline, or None for one who is not known."""
        row = int(rows_of([user_id], self.lookup, self.user_ids)[0])
        return row if row >= 0 else None

    def codes(self, user_ids: Sequence[str | None]) -> NDArray[np.int64]:
        """The position of each shopper in the timeline, int64 [n]; -1 for one who is not known, and for nobody."""
        rows = rows_of([user_id or "" for user_id in user_ids], self.lookup, self.user_ids)
        return np.where([user_id is not None for user_id in user_ids], rows, -1)

    @classmethod
    def open(cls, folder: Path | None, version: IndexVersion) -> UserStore:
        """Opens what `write_users` wrote; without a folder, nobody is known and nothing is popular."""
        if folder is None:
            return cls.nobody(version.size)
        about = read_json(folder / "about.json")
        kinds = about.get("kinds")
        if not isinstance(kinds, list):
            raise BadBundle(f"{folder / 'about.json'} names no kinds of events; run: shortlist run BUNDLE --data DATA")
        arrays = {name: np.load(folder / f"{name}.npy", mmap_mode="r") for name in ARRAYS}
        ids = read_table(folder / "items.arrow")["item_id"]
        rows = version.rows_of(ids.to_pylist()).astype(np.int32)
        item = np.where(arrays["item"] >= 0, rows[np.maximum(arrays["item"], 0)], -1).astype(np.int32)
        popularity = np.nan_to_num(_by_row(folder / "counts.npy", rows, version.size))
        users = read_table(folder / "users.arrow")["user_id"]
        texts = tuple(read_table(folder / "queries.arrow")["text"].to_pylist())
        timeline = Timeline(kinds=tuple(map(str, kinds)), **(arrays | {"item": item}))
        lookup = HashIndex.build(hash_keys(users.to_pylist()))
        similarities = {
            name: partial(_similar, folder, name, rows.astype(np.int64), version.size)
            for name in SIMILARITIES
            if (folder / f"{name}.npy").exists()
        }
        figures = ItemFigures(
            *(_by_row(folder / f"item_{name}.npy", rows, version.size) for name in ItemFigures._fields)
        )
        return cls(
            timeline, users, texts, popularity, lookup, figures, similarities, dated=about.get("dated") is not False
        )

    @property
    def today(self) -> int:
        """The day after the last event, in whole days since 1970, UTC: as of when a release answers."""
        return self.newest // DAY + 1

    @cached_property
    def newest(self) -> int:
        """When the last event happened, microseconds since 1970, UTC; 0 without events."""
        return int(self.timeline.time.max(initial=0))

    def frequent_queries(self, most: int) -> tuple[list[str], list[int]]:
        """The texts of past queries that were asked most often, and how often each was."""
        if not self.query_texts:
            return [], []
        asked = np.bincount(self.timeline.query[self.timeline.query >= 0], minlength=len(self.query_texts))
        codes = np.argsort(-asked, kind="stable")[:most].tolist()
        return [self.query_texts[code] for code in codes], asked[codes].tolist()

    @classmethod
    def nobody(cls, n_items: int) -> UserStore:
        """No shopper at all."""
        empty = np.empty(0, np.int32)
        timeline = Timeline(
            item=empty, query=empty, kind=empty.astype(np.int16), time=empty.astype(np.int64),
            offsets=np.zeros(1, np.int64), kinds=(),
        )  # fmt: skip
        users = pa.chunked_array([pa.array([], pa.string())])
        popularity, lookup = np.zeros(n_items, np.float32), HashIndex.build(hash_keys([]))
        return cls(timeline, users, (), popularity, lookup, ItemFigures.none(n_items))

    def recoded(self, kinds: tuple[str, ...]) -> UserStore:
        """The same with event kinds in the order that a tower knows."""
        return replace(self, timeline=self.timeline.recoded(kinds))


def write_users(
    folder: Path, data: DataSet, targets: Sequence[str], train: NDArray[np.bool_], *, dated: bool = True
) -> None:
    """Writes every event of the data set, how often each item was taken, by events of the kinds `targets`, what was
    recently taken together, and of the events `train`, bool [n_events], the co-occurrence and succession of items and
    their figures. `dated`: whether times are dates that all users share."""
    assert data.events is not None
    events = data.events
    timeline, _ = Timeline.from_events(data.events)
    for name in ARRAYS:
        write_array(folder / f"{name}.npy", getattr(timeline, name))
    counts = np.bincount(data.events.item[data.events.is_kind(targets)], minlength=data.n_items)
    write_array(folder / "counts.npy", counts.astype(np.float32))
    for name, similar in _similarities(data, timeline, targets, train):
        for part, array in zip(PARTS, (similar.data, similar.indices, similar.indptr), strict=True):
            write_array(folder / f"{part.format(name)}.npy", array)
    figures = item_figures(
        events.item[train],
        events.user[train],
        events.time[train],
        events.rating[train],
        events.is_kind(targets)[train],
        data.n_items,
    )
    for name, values in figures._asdict().items():
        write_array(folder / f"item_{name}.npy", values)
    write_table(folder / "items.arrow", pa.table({"item_id": pa.array(data.item_ids, pa.string())}))
    write_table(folder / "users.arrow", pa.table({"user_id": pa.array(data.user_ids, pa.string())}))
    write_table(folder / "queries.arrow", pa.table({"text": pa.array(data.events.query_texts, pa.string())}))
    (folder / "about.json").write_text(
        json.dumps({"kinds": list(timeline.kinds), "dated": dated}, ensure_ascii=False), "utf-8"
    )


def _similarities(
    data: DataSet, timeline: Timeline, targets: Sequence[str], train: NDArray[np.bool_]
) -> Iterator[tuple[str, csr_array]]:
    """What `UserStore.similarities` read, by name, as far as the data has it."""
    events, n_items = data.events, data.n_items
    assert events is not None
    today = int(timeline.time.max(initial=0) // DAY + 1)
    yield "together", cooccurrence(events, train, n_items)
    yield "lately", RecentCoOccurrence.of_timeline(timeline, targets, n_items).similar(today)
    yield "after", right_after(events, train, n_items)
    if events.has_baskets:
        groups = group_targets(events, train & events.is_kind(targets))
        yield "baskets", same_basket(CSR(groups.ptr, events.item[groups.member].astype(np.int64)), n_items)
    if data.relations is not None and len(data.relations):
        yield "completes", data.relations.matrix((COMPLEMENT, ACCESSORY), n_items)
        yield "replaces", data.relations.matrix((SUBSTITUTE, SYNONYM), n_items)


def users_of(folder: Path) -> set[str]:
    """The ids of the shoppers that `write_users` wrote."""
    return set(read_table(folder / "users.arrow")["user_id"].to_pylist())


def write_without(part: Path, folder: Path, user_id: str) -> str:
    """Writes the files OF_USERS of a part of `write_users` without one of its shoppers, and without queries that nobody
    else asked, to another folder; returns a fingerprint of them. What is counted of items is not of shoppers."""
    users, texts = (read_table(part / f"{name}.arrow") for name in ("users", "queries"))
    code = users["user_id"].to_pylist().index(user_id)
    arrays = {name: np.load(part / f"{name}.npy") for name in ARRAYS}
    begin, end = arrays["offsets"][code : code + 2]
    columns = {name: np.delete(arrays[name], slice(begin, end)) for name in ARRAYS if name != "offsets"}
    used, query = np.unique(columns["query"][columns["query"] >= 0], return_inverse=True)
    columns["query"][columns["query"] >= 0] = query.astype(np.int32)
    offsets = np.delete(arrays["offsets"], code + 1)
    offsets[code + 1 :] -= end - begin
    columns["offsets"] = offsets
    for name, column in columns.items():
        write_array(folder / f"{name}.npy", column)
    kept = np.delete(np.arange(users.num_rows), code)
    write_table(folder / "users.arrow", users.take(kept))
    write_table(folder / "queries.arrow", texts.take(used))
    return fingerprint({name: array_sha256(column) for name, column in columns.items()})


def _by_row(path: Path, rows: NDArray[np.integer], n_items: int) -> NDArray[np.float32]:
    """Numbers that were written by item, at the rows of an index, float32 [n_items]; 0 or, of means, nan elsewhere."""
    values = np.load(path)
    found = np.full(n_items, 0.0 if np.isfinite(values).all() else np.nan, np.float32)
    found[rows[rows >= 0]] = values[rows >= 0]
    return found


def _similar(folder: Path, name: str, rows: NDArray[np.int64], n_items: int) -> csr_array:
    """What goes with what, from the rows that it was written by to those of an index, `rows` int64 [n_written]."""
    from scipy.sparse import csr_array

    cosines, columns, indptr = (
        np.load(folder / f"{part.format(name)}.npy", mmap_mode="r").view(np.ndarray) for part in PARTS
    )
    if len(rows) == n_items and (rows == np.arange(n_items)).all():
        return csr_array((cosines, columns, indptr), (n_items, n_items))
    owners, columns = rows[np.repeat(np.arange(len(rows)), np.diff(indptr))], rows[columns]
    kept = (owners >= 0) & (columns >= 0)
    return csr_array((cosines[kept], (owners[kept], columns[kept])), (n_items, n_items))
