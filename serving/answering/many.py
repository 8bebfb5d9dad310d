"""Many requests at once: blocks of users, queries or items through the pipeline, and their hits as Arrow batches."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence, Sized
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from itertools import count, islice
from typing import Any, Literal, TypeAlias, TypedDict

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from retrieval.encoders.blas_threads import ONE_BLAS_THREAD
from retrieval.encoders.runtime import available_cores
from retrieval.errors import BadRequest
from retrieval.progress import progress
from retrieval.topk import Rows, Scores
from serving.answering.batch import Batch
from serving.answering.forked import FORK_GUARD
from serving.answering.pipeline import order_many
from serving.answering.release_state import ReleaseState
from serving.answering.stages.describe import FEWER, fallbacks_of
from serving.request import Audience, DiversityMethod, Filters, Request

Asked: TypeAlias = Iterable[str] | pa.Table | pa.RecordBatchReader
"""Ids or queries: a list or any other iterable of strings, a pyarrow array of them, or a table with such a column."""
Key: TypeAlias = Literal["user_id", "query", "item_id"]

BLOCK = 512  # requests that travel together
UNIT = {"user_id": "shoppers", "query": "queries", "item_id": "items"}
STRINGS = pa.list_(pa.string())


class ForAll(TypedDict, total=False):
    """What many requests ask for alike; see Request."""

    k: int
    filter_seen: bool | None
    rerank: bool
    filters: Filters | None
    spellcheck: bool
    diversity: float
    diversify_by: DiversityMethod
    one_per_group: bool
    page: str | None
    audience: Audience | None


@dataclass(frozen=True)
class ManyRequests:
    """Requests that are like `template` but for their `key`: the user, the query or the item that others are to be
    similar to. Of a table, queries may have a column `user_id` beside them."""

    key: Key
    asked: Asked
    template: Request

    def blocks(self) -> Iterator[list[Request]]:
        """The requests in their order, at most BLOCK at a time. Raises BadRequest for what is no text."""
        rows = zip(count(), self._rows(), strict=False)
        while block := [self._request(*row) for row in islice(rows, BLOCK)]:
            yield block

    @property
    def schema(self) -> pa.Schema:
        """The columns of what is answered, one row a hit: the key, `rank` from 1, `item_id`, `score`, and `fallbacks`
        and `degraded` as in an Answer."""
        item = "similar_item_id" if self.key == "item_id" else "item_id"
        hit = [("rank", pa.int32()), (item, pa.string()), ("score", pa.float32())]
        return pa.schema([(self.key, pa.string()), *hit, ("fallbacks", STRINGS), ("degraded", STRINGS)])

    @property
    def total(self) -> int:
        """How many requests there are; 0 where nobody knows before the last."""
        if isinstance(self.asked, pa.Table):
            return int(self.asked.num_rows)
        return len(self.asked) if isinstance(self.asked, Sized) else 0

    def _request(self, row: int, values: tuple[Any, ...]) -> Request:
        for value in values:
            if not isinstance(value, str):
                raise BadRequest(f"{self.key} {value!r:.80} of row {row}, counted from 0, is no text; give strings")
        if self.key == "item_id":
            return self.template.alike(history=values)
        return self.template.alike(**dict(zip((self.key, "user_id"), values, strict=False)))

    def _rows(self) -> Iterator[tuple[Any, ...]]:
        asked = self.asked.to_reader(BLOCK) if isinstance(self.asked, pa.Table) else self.asked
        if not isinstance(asked, pa.RecordBatchReader):
            values = asked.to_pylist() if isinstance(asked, pa.Array | pa.ChunkedArray) else asked
            yield from ((value,) for value in values)
            return
        names = [name for name in dict.fromkeys((self.key, "user_id")) if name in asked.schema.names]
        names = names if self.key == "query" else names[:1]
        for batch in asked:
            yield from zip(*(_texts(batch, name) for name in names), strict=True)

    def check(self) -> None:
        """Raises BadRequest for what cannot be asked at all: one string, or a table without the key as a column."""
        tables = pa.Table | pa.RecordBatchReader
        if isinstance(self.asked, str) or not isinstance(self.asked, Iterable | tables):
            raise BadRequest(f"{UNIT[self.key]}: {self.asked!r:.80} is no list; give one, or a table with {self.key}")
        if isinstance(self.asked, tables) and self.key not in self.asked.schema.names:
            held = ", ".join(self.asked.schema.names) or "no column"
            raise BadRequest(f"the table of {UNIT[self.key]} has {held}; call the column of ids or texts {self.key}")


def answer_many(state: ReleaseState, many: ManyRequests, *, show_progress: bool = False) -> Iterator[pa.RecordBatch]:
    """The hits of all requests, in their order, block by block: see `ManyRequests.schema`, whose metadata name the
    release and the revision of its index. All blocks are answered from `state`, one on each core, and no more
    than one besides is in memory."""
    many.check()
    about = {"release": state.release.id, "index_revision": str(state.version.revision)}
    return _blocks(state, many, many.schema.with_metadata(about), show_progress)


def _blocks(
    state: ReleaseState, many: ManyRequests, schema: pa.Schema, show_progress: bool
) -> Iterator[pa.RecordBatch]:
    shown = progress(many.total, "answering", unit=UNIT[many.key]) if show_progress else nullcontext(_nobody_looks)
    cores, waiting = available_cores(), deque[tuple[int, Future[pa.RecordBatch]]]()
    with shown as advance, ThreadPoolExecutor(cores, thread_name_prefix="many requests") as pool:
        for block in many.blocks():
            waiting.append((len(block), pool.submit(FORK_GUARD.run, partial(_hits, state, many.key, block, schema))))
            if len(waiting) > cores:
                yield _first_of(waiting, advance)
        while waiting:
            yield _first_of(waiting, advance)


def _first_of(waiting: deque[tuple[int, Future[pa.RecordBatch]]], advance: Callable[[int], None]) -> pa.RecordBatch:
    size, hits = waiting.popleft()
    found = hits.result()
    advance(size)
    return found


def _hits(state: ReleaseState, key: Key, block: list[Request], schema: pa.Schema) -> pa.RecordBatch:
    """The hits of one block as columns; blocks share the cores, so that each has one thread of BLAS."""
    with ONE_BLAS_THREAD:
        return _columns(state, key, block, schema)


def _columns(state: ReleaseState, key: Key, block: list[Request], schema: pa.Schema) -> pa.RecordBatch:
    k = min(block[0].k, state.version.size)
    rows, scores = np.full((len(block), k), -1, np.int64), np.zeros((len(block), k), np.float32)
    fallbacks: list[tuple[str, ...]] = [()] * len(block)
    degraded: list[tuple[str, ...]] = [()] * len(block)
    for lines, batch in order_many(state, block):
        rows[lines], scores[lines] = _first(batch, k)
        for at, codes in zip(lines, fallbacks_of(state, batch), strict=True):
            fallbacks[at], degraded[at] = codes, batch.degraded
    few = (rows >= 0).sum(axis=1) < block[0].k
    fallbacks = [(*codes, FEWER) if fewer else codes for codes, fewer in zip(fallbacks, few.tolist(), strict=True)]
    line, place = np.nonzero(rows >= 0)
    columns = [
        pa.array([_key(key, request) for request in block], pa.string()).take(pa.array(line)),
        pa.array(place + 1, pa.int32()),
        state.version.values_at("item_id", rows[line, place]).combine_chunks(),
        pa.array(scores[line, place]),
        _lists(fallbacks, line),
        _lists(degraded, line),
    ]
    return pa.RecordBatch.from_arrays(columns, schema=schema)


def _first(batch: Batch, k: int) -> tuple[Rows, Scores]:
    """The first k places that hold an item, row -1 behind them; [n, k] each."""
    order = batch.order
    assert order is not None, "the batch is in its final order"
    first = np.argsort(order.rows < 0, axis=1, kind="stable")[:, :k]
    return np.take_along_axis(order.rows, first, axis=1), np.take_along_axis(order.scores, first, axis=1)


def _lists(lists: Sequence[tuple[str, ...]], lines: NDArray[np.int64]) -> pa.Array:
    """The list of each line, of which most are alike, at `lines`."""
    number: dict[tuple[str, ...], int] = {}
    at = np.array([number.setdefault(one, len(number)) for one in lists], np.int64)
    return pa.array(list(number), STRINGS).take(pa.array(at[lines]))


def _key(key: Key, request: Request) -> str | None:
    if key == "item_id":
        return str((request.history or ("",))[0])
    return request.user_id if key == "user_id" else request.query


def _texts(batch: pa.RecordBatch, name: str) -> list[Any]:
    """A column of texts, or of whole numbers as text."""
    column = batch[name]
    texts: list[Any] = (column.cast(pa.string()) if pa.types.is_integer(column.type) else column).to_pylist()
    return texts


def _nobody_looks(_: int) -> None:
    """What is done of progress that is not shown."""
