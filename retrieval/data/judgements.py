"""Queries and graded judgements as numpy columns, and their readers."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from retrieval.data.audit import Codebook, FileAudit, Screen
from retrieval.data.checks import LARGEST, numbers, repeats, screen_ids, screen_text
from retrieval.data.events import UNKNOWN_ITEM, Codes
from retrieval.text.rendering import query_text

SPLITS = ("train", "valid", "test")
UNKNOWN_QUERY = "query_id not in queries.parquet"


@dataclass(frozen=True, kw_only=True)
class Queries:
    """The queries in file order: ids, texts as models read them, and the user's code, int32 [n], -1 for none."""

    ids: tuple[str, ...]
    texts: tuple[str, ...]
    user: Codes

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True, kw_only=True)
class Judgements:
    """Graded (query, item) pairs, sorted by query, then in file order; all columns are [n].

    `query` and `item` int32 are positions in the queries and in the data set's `item_ids`; `grade` float32; `split`
    int8 is a position in `SPLITS`, -1 where the file has no such column.
    """

    query: Codes
    item: Codes
    grade: NDArray[np.float32]
    split: NDArray[np.int8]

    def __len__(self) -> int:
        return len(self.query)


def read_queries(audit: FileAudit, users: Codebook) -> Queries:
    """Reads the usable queries. New users are added to `users`, and users are coded by it."""
    columns = tuple(name for name in ("query_id", "text", "user_id") if name in audit.source.columns)
    seen: set[Hashable] = set()
    ids: list[str] = []
    texts: list[str] = []
    user: list[Codes] = [np.empty(0, np.int32)]
    for screen in audit.screens(columns):
        batch_ids, batch_texts = screen_ids(screen, "query_id"), screen_text(screen, "text")
        screen.drop("query_id repeated", repeats(screen, batch_ids.to_pylist(), seen), "query_id")
        kept = pa.array(~screen.dropped)
        ids += batch_ids.filter(kept).to_pylist()
        texts += map(query_text, batch_texts.filter(kept).to_pylist())
        user.append(_user_codes(screen, users, kept)[~screen.dropped])
    return Queries(ids=tuple(ids), texts=tuple(texts), user=np.concatenate(user))


def read_judgements(audit: FileAudit, item_ids: Sequence[str], query_ids: Sequence[str]) -> Judgements:
    """Reads the usable judgements of known items and queries. A pair that several assessors judged has their mean
    grade, and of its splits the strictest: test, then valid."""
    columns = tuple(name for name in ("query_id", "item_id", "grade", "split") if name in audit.source.columns)
    queries, items = Codebook(query_ids), Codebook(item_ids)
    seen: set[Hashable] = set()
    parts = [_judgements(screen, queries, items, seen) for screen in audit.screens(columns)]
    query, item, grade, split = (np.concatenate(column) for column in zip(*parts, strict=True))
    pairs = (query.astype(np.int64) << 32) | item.astype(np.int64)
    _, first, which = np.unique(pairs, return_index=True, return_inverse=True)
    mean = np.bincount(which, grade) / np.bincount(which)
    strictest = np.full(len(first), -1, np.int8)
    np.maximum.at(strictest, which, split.astype(np.int8))
    order = np.lexsort((first, query[first]))
    return Judgements(
        query=query[first][order].astype(np.int32),
        item=item[first][order].astype(np.int32),
        grade=mean[order].astype(np.float32),
        split=strictest[order],
    )


def _judgements(
    screen: Screen, queries: Codebook, items: Codebook, seen: set[Hashable]
) -> tuple[Codes, Codes, NDArray[np.float64], NDArray[np.int8]]:
    query_ids, item_ids = screen_ids(screen, "query_id"), screen_ids(screen, "item_id")
    grade, _ = numbers(screen.column("grade"))
    screen.drop("grade null, infinite or not a number", ~(np.abs(grade) <= LARGEST), "grade")
    split = _splits(screen)
    query, item = queries.look_up(query_ids), items.look_up(item_ids)
    screen.drop(UNKNOWN_QUERY, query < 0, "query_id", unknown=True)
    screen.drop(UNKNOWN_ITEM, item < 0, "item_id", unknown=True)
    pairs = (query.astype(np.int64) << 32) | item.astype(np.int64)
    again = repeats(screen, pairs.tolist(), seen)
    screen.remark("query and item judged more than once", again, "item_id", "grades averaged")
    kept = ~screen.dropped
    return query[kept], item[kept], grade[kept], split[kept]


def _splits(screen: Screen) -> NDArray[np.int8]:
    if "split" not in screen:
        return np.full(screen.n, -1, np.int8)
    names = pc.utf8_lower(pc.utf8_trim_whitespace(screen.column("split")))
    codes = np.asarray(pc.fill_null(pc.index_in(names, pa.array(SPLITS)), -1).to_numpy(zero_copy_only=False), np.int8)
    screen.drop("split other than train, valid or test", codes < 0, "split")
    return codes


def _user_codes(screen: Screen, users: Codebook, kept: pa.Array) -> Codes:
    if "user_id" not in screen:
        return np.full(screen.n, -1, np.int32)
    return users.add(screen.column("user_id").cast(pa.string()), kept)
