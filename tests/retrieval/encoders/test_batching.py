"""Batches by length: every text once, within the budget, in few shapes, on all streams of a runner."""

from __future__ import annotations

import threading
from contextlib import suppress
from functools import cache
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from retrieval.encoders import batching
from retrieval.encoders.batching import EVEN_BELOW, batches_for, padded_length, run_batched, token_batches
from retrieval.encoders.runtime import TorchRunner
from token_sums import Sums, by_hand, texts


@settings(max_examples=100, deadline=None)
@given(lengths=st.lists(st.integers(0, 300), max_size=60), budget=st.integers(8, 512))
def test_batches_hold_every_text_once_and_keep_to_the_budget(lengths: list[int], budget: int) -> None:
    batches = token_batches(np.array(lengths, np.int64), budget_tokens=budget)
    assert sorted(position for batch in batches for position in batch.tolist()) == list(range(len(lengths)))
    for batch in batches:
        padded = int(padded_length(np.array(max(lengths[i] for i in batch))))
        assert len(batch) == 1 or len(batch) * padded <= budget
    in_order = [lengths[i] for batch in batches for i in batch]
    assert in_order == sorted(in_order)


@settings(max_examples=30, deadline=None)
@given(lengths=st.lists(st.integers(1, 30), max_size=20))
def test_rows_come_back_in_the_order_of_the_texts(lengths: list[int]) -> None:
    encoded, heard = texts(lengths), list[int]()
    found = run_batched(encoded, TorchRunner(Sums(), "cpu", "fp32"), budget_tokens=64, pad_id=7, done=heard.append)
    assert found.tolist() == by_hand(encoded)
    assert sum(heard) == len(lengths)


@pytest.mark.parametrize("multiple", [8, 2])
def test_few_shapes_are_seen(multiple: int) -> None:
    shapes = set()

    def runner(ids: NDArray[np.int64], mask: NDArray[np.int64], segments: NDArray[np.int64]) -> NDArray[np.float32]:
        shapes.add(ids.shape[1])
        return np.zeros((len(ids), 1), np.float32)

    runner.streams = 1  # type: ignore[attr-defined]
    run_batched(texts(list(range(1, 65))), runner, budget_tokens=64, multiple=multiple)  # type: ignore[arg-type]
    assert all(length % multiple == 0 for length in shapes)
    assert any(length % 8 for length in shapes) == (multiple < 8)
    assert len(shapes) <= 64 // multiple


def test_no_texts_give_no_rows() -> None:
    assert run_batched(texts([]), TorchRunner(Sums(), "cpu", "fp32")).shape == (0, 0)


class Meeting:
    """A runner of two streams, whose first batches wait for each other; it fails where a text is of one token."""

    streams, budget_tokens = 2, 64

    def __init__(self) -> None:
        self.together = threading.Barrier(2)

    def __call__(
        self, ids: NDArray[np.int64], mask: NDArray[np.int64], segments: NDArray[np.int64]
    ) -> NDArray[np.float32]:
        if mask.sum(axis=1).min() == 1:
            raise RuntimeError("a text of one token")
        with suppress(threading.BrokenBarrierError):
            self.together.wait(timeout=20)
        return TorchRunner(Sums(), "cpu", "fp32")(ids, mask, segments)


def test_batches_run_at_once_where_a_runner_has_streams(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batching, "available_cores", lambda: 2)
    monkeypatch.setattr(batching, "_pool", cache(batching._pool.__wrapped__))
    encoded, heard, runner = texts([2, 3, 9, 17, 30, 8]), list[int](), Meeting()
    asked_in = threading.get_ident()

    def done(n: int) -> None:
        assert threading.get_ident() == asked_in
        heard.append(n)

    assert run_batched(encoded, runner, done=done).tolist() == by_hand(encoded)
    assert not runner.together.broken
    assert sum(heard) == 6
    with pytest.raises(RuntimeError, match="one token"):
        run_batched(texts([1, 20, 30]), Meeting())


@given(lengths=st.lists(st.integers(1, 40), min_size=1, max_size=60), streams=st.integers(1, 4))
def test_each_stream_has_a_batch_where_there_is_work_for_it(lengths: list[int], streams: int) -> None:
    runner = SimpleNamespace(streams=streams, budget_tokens=10_000)
    found = batches_for(np.array(lengths), runner)  # type: ignore[arg-type]
    assert sorted(at for batch in found for at in batch.tolist()) == list(range(len(lengths)))
    for each in (1, 2, 5):
        alike = batches_for(np.full(each * streams, 16), runner)  # type: ignore[arg-type]
        assert [len(batch) for batch in alike] == [each] * streams


@given(lengths=st.lists(st.integers(1, 64), min_size=1, max_size=200), streams=st.integers(2, 4))
def test_streams_have_as_many_batches_of_the_least_size(lengths: list[int], streams: int) -> None:
    runner = SimpleNamespace(streams=streams, budget_tokens=128)
    found = batches_for(np.array(lengths), runner)  # type: ignore[arg-type]
    fewest = len(token_batches(np.array(lengths), budget_tokens=128))
    if fewest > EVEN_BELOW * streams:
        assert len(found) == fewest
        return
    largest = max(len(batch) * int(padded_length(np.array(lengths)[batch]).max()) for batch in found)
    assert largest <= 128
    assert len(found) <= (most := -(-fewest // streams) * streams)
    if largest > padded_length(np.array(lengths)).max():
        assert len(token_batches(np.array(lengths), budget_tokens=largest - 1)) > most
