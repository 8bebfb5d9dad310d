"""Batches of texts of similar length within a budget of tokens, and running them on as many streams as a model has."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from functools import cache
from itertools import islice
from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from retrieval.encoders.runtime import BUDGET_TOKENS, MAX_STREAMS, MULTIPLE, Runner, available_cores

Batch: TypeAlias = tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]  # ids, mask, segments, [b, l] each

EVEN_BELOW = 16  # batches per stream up to which batches are balanced between streams


class Encoded(NamedTuple):
    """Token ids and segment ids of n texts or pairs, one list each."""

    ids: list[list[int]]
    segments: list[list[int]]

    @property
    def lengths(self) -> NDArray[np.int64]:
        """The number of tokens of each text, int64 [n]."""
        return np.fromiter((len(row) for row in self.ids), np.int64, len(self.ids))


def token_batches(
    lengths: NDArray[np.int64], *, budget_tokens: int = BUDGET_TOKENS, multiple: int = MULTIPLE
) -> list[NDArray[np.int64]]:
    """Positions grouped by length into batches of at most `budget_tokens` tokens, with lengths padded to a multiple.

    >>> [batch.tolist() for batch in token_batches(np.array([3, 30, 5, 4]), budget_tokens=32)]
    [[0, 3, 2], [1]]
    """
    order = np.argsort(lengths, kind="stable")
    padded = padded_length(np.asarray(lengths)[order], multiple)
    batches, start = [], 0
    for stop in range(1, len(order) + 1):
        full = stop < len(order) and (stop + 1 - start) * padded[stop] > budget_tokens
        if full or stop == len(order):
            batches.append(order[start:stop])
            start = stop
    return batches


def padded_length(length: NDArray[np.int64], multiple: int = MULTIPLE) -> NDArray[np.int64]:
    """Lengths rounded up to a multiple of `multiple`, at least one multiple."""
    return np.maximum(-(-length // multiple), 1) * multiple


def run_batched(
    encoded: Encoded,
    runner: Runner,
    *,
    pad_id: int = 0,
    budget_tokens: int | None = None,
    multiple: int = MULTIPLE,
    done: Callable[[int], None] | None = None,
) -> NDArray[np.float32]:
    """Runs all texts in batches of similar length; returns float32 [n, ...] in the texts' order, [0, 0] for none.

    `budget_tokens` defaults to the runner's own; lengths are padded to a multiple of `multiple`. `done` is called after
    each batch with its number of texts.
    """

    def padded(batch: NDArray[np.int64]) -> Batch:
        return _pad([encoded.ids[i] for i in batch], [encoded.segments[i] for i in batch], pad_id, multiple)

    output: NDArray[np.float32] | None = None
    batches = batches_for(encoded.lengths, runner, budget_tokens=budget_tokens, multiple=multiple)
    for batch, rows in run_each(runner, batches, padded):
        if output is None:
            output = np.empty((len(encoded.ids), *rows.shape[1:]), np.float32)
        output[batch] = rows
        if done is not None:
            done(len(batch))
    return np.empty((0, 0), np.float32) if output is None else output


def batches_for(
    lengths: NDArray[np.int64], runner: Runner, *, budget_tokens: int | None = None, multiple: int = MULTIPLE
) -> list[NDArray[np.int64]]:
    """`token_batches` for a runner; few batches are balanced, so that all streams finish at about the same time."""
    if not len(lengths):
        return []
    budget = runner.budget_tokens if budget_tokens is None else budget_tokens
    batches, streams = token_batches(lengths, budget_tokens=budget, multiple=multiple), runner.streams
    if streams == 1 or len(batches) > EVEN_BELOW * streams:
        return batches
    most = -(-len(batches) // streams) * streams
    padded = padded_length(np.asarray(lengths), multiple)
    low, high = min(max(int(padded.max()), -(-int(padded.sum()) // most)), budget), budget
    while low < high:  # find the smallest budget that needs no more batches
        middle = (low + high) // 2
        batches = token_batches(lengths, budget_tokens=middle, multiple=multiple)
        low, high = (low, middle) if len(batches) <= most else (middle + 1, high)
    return token_batches(lengths, budget_tokens=low, multiple=multiple)


def run_each(
    runner: Runner, batches: Sequence[NDArray[np.int64]], padded: Callable[[NDArray[np.int64]], Batch]
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.float32]]]:
    """Yields (batch, rows) as batches finish; as many run at once as the runner has streams, the longest first."""
    ordered = batches[::-1]
    if runner.streams == 1 or len(ordered) < 2:
        yield from ((batch, runner(*padded(batch))) for batch in ordered)
        return
    waiting: dict[Future[NDArray[np.float32]], NDArray[np.int64]] = {}
    left = iter(ordered)
    try:
        while True:
            for batch in islice(
                left, runner.streams - len(waiting)
            ):  # no more, because other callers wait for the same threads
                waiting[_pool(os.getpid()).submit(lambda batch: runner(*padded(batch)), batch)] = batch
            if not waiting:
                return
            for ended in wait(waiting, return_when=FIRST_COMPLETED).done:
                yield waiting.pop(ended), ended.result()
    finally:
        for one in waiting:
            one.cancel()


@cache
def _pool(process: int) -> ThreadPoolExecutor:
    """The threads that run batches in one process; a forked child needs its own."""
    return ThreadPoolExecutor(min(available_cores(), MAX_STREAMS), thread_name_prefix="model")


def _pad(ids: Sequence[list[int]], segments: Sequence[list[int]], pad_id: int, multiple: int) -> Batch:
    longest = int(padded_length(np.array(max(len(row) for row in ids)), multiple))
    input_ids = np.full((len(ids), longest), pad_id, np.int64)
    mask, types = np.zeros_like(input_ids), np.zeros_like(input_ids)
    for i, (row, kinds) in enumerate(zip(ids, segments, strict=True)):
        input_ids[i, : len(row)], types[i, : len(row)], mask[i, : len(row)] = row, kinds, 1
    return input_ids, mask, types
