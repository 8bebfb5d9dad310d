"""Devices, precisions, batches of few shapes, and graphs that are kept."""

from __future__ import annotations

import hashlib
import threading
from contextlib import suppress
from functools import cache
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import openvino
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from retrieval.encoders import runtime
from retrieval.encoders.runtime import (
    EVEN_BELOW,
    TOKEN_INPUTS,
    Encoded,
    OpenVinoModel,
    TorchRunner,
    batches_for,
    convert,
    openvino_model,
    padded_length,
    pick_device,
    resolve_precision,
    run_batched,
    token_batches,
    token_example,
)
from retrieval.errors import BadConfig, MissingDependency


class Sums(torch.nn.Module):
    """A model that can be worked out by hand: the sum of the tokens, of their segments, and how many there are."""

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor, segments: torch.Tensor) -> torch.Tensor:
        rows = [(input_ids * attention_mask).sum(1), (segments * attention_mask).sum(1), attention_mask.sum(1)]
        return torch.stack(rows, dim=1).float()


def texts(lengths: list[int]) -> Encoded:
    """A text of each length, whose tokens and segments are told apart."""
    ids = [[100 * row + place + 1 for place in range(length)] for row, length in enumerate(lengths)]
    return Encoded(ids, [[place % 2 for place in range(length)] for length in lengths])


def by_hand(encoded: Encoded) -> list[list[int]]:
    return [[sum(ids), sum(kinds), len(ids)] for ids, kinds in zip(*encoded, strict=True)]


def graph() -> openvino.Model:
    return convert(Sums(), TOKEN_INPUTS, token_example())


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


def test_a_graph_takes_batches_and_lengths_that_it_was_not_traced_with() -> None:
    encoded = texts([1, 8, 9, 40, 3, 17])
    assert run_batched(encoded, OpenVinoModel.compile(graph()), budget_tokens=80).tolist() == by_hand(encoded)


def test_one_graph_serves_many_threads() -> None:
    model, encoded = OpenVinoModel.compile(graph()), texts([1, 8, 9, 40, 3, 17])
    found: list[list[list[float]]] = []
    work = [threading.Thread(target=lambda: found.append(run_batched(encoded, model).tolist())) for _ in range(4)]
    for thread in work:
        thread.start()
    for thread in work:
        thread.join()
    assert found == [by_hand(encoded)] * 4


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
    monkeypatch.setattr(runtime, "available_cores", lambda: 2)
    monkeypatch.setattr(runtime, "_pool", cache(runtime._pool.__wrapped__))
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


def test_a_kept_graph_is_not_made_again(tmp_path: Path) -> None:
    def never() -> openvino.Model:
        raise AssertionError("it was kept")

    path, encoded = tmp_path / "new" / "model.xml", texts([2, 5])
    openvino_model(path, graph)
    assert sorted(file.name for file in path.parent.iterdir()) == ["model.bin", "model.sha256", "model.xml"]
    assert run_batched(encoded, openvino_model(path, never)).tolist() == by_hand(encoded)


@pytest.mark.parametrize("name", ["model.bin", "model.xml", "model.sha256"])
@pytest.mark.parametrize("harm", ["flipped", "short", "gone"])
def test_a_kept_graph_that_is_not_as_it_was_written_is_made_again(tmp_path: Path, name: str, harm: str) -> None:
    path, encoded = tmp_path / "model.xml", texts([2, 5])
    openvino_model(path, graph)
    kept = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    data = bytearray(kept[name])
    data[len(data) // 2] ^= 1
    if harm == "gone":
        (tmp_path / name).unlink()
    else:
        (tmp_path / name).write_bytes(bytes(data) if harm == "flipped" else kept[name][:-1])
    assert run_batched(encoded, openvino_model(path, graph)).tolist() == by_hand(encoded)
    assert {file.name for file in tmp_path.iterdir()} == set(kept)
    sums = dict(reversed(line.split("  ")) for line in (tmp_path / "model.sha256").read_text().splitlines())
    assert sums == {
        part: hashlib.sha256((tmp_path / part).read_bytes()).hexdigest() for part in ("model.xml", "model.bin")
    }


def test_a_kept_graph_that_does_not_open_is_made_again(tmp_path: Path) -> None:
    path, encoded = tmp_path / "model.xml", texts([2, 5])
    openvino_model(path, graph)
    path.write_text("half of a gra", "utf-8")
    path.with_suffix(".sha256").write_text(runtime._sums(path), "utf-8")
    assert run_batched(encoded, openvino_model(path, graph)).tolist() == by_hand(encoded)
    assert "half" not in path.read_text("utf-8")


def test_where_nothing_can_be_written_nothing_is_kept(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    model = openvino_model(tmp_path / "file" / "model.xml", graph)
    assert run_batched(texts([3]), model).tolist() == by_hand(texts([3]))


def test_auto_takes_cuda_where_there_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtime, "_has_cuda", lambda: True)
    assert [pick_device(wanted) for wanted in ("auto", "cuda", "cpu")] == ["cuda", "cuda", "cpu"]
    monkeypatch.setattr(runtime, "_has_cuda", lambda: False)
    assert [pick_device(wanted) for wanted in ("auto", "cpu")] == ["cpu", "cpu"]


def test_a_device_that_is_not_there_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtime, "_has_cuda", lambda: False)
    with pytest.raises(MissingDependency, match="device=cpu"):
        pick_device("cuda")
    with pytest.raises(BadConfig, match="tpu"):
        pick_device("tpu")


@pytest.mark.parametrize(
    ("precision", "device", "hardware", "taken"),
    [
        ("auto", "cpu", True, "bf16"),
        ("auto", "cpu", False, "fp32"),
        ("auto", "cuda", False, "bf16"),
        ("fp32", "cuda", True, "fp32"),
        ("fp32", "cpu", True, "fp32"),
        ("bf16", "cpu", True, "bf16"),
        ("bf16", "cpu", False, "fp32"),
        ("bf16", "cuda", False, "bf16"),
    ],
)
def test_bf16_is_taken_only_where_hardware_multiplies_it(
    monkeypatch: pytest.MonkeyPatch, precision: str, device: str, hardware: bool, taken: str
) -> None:
    monkeypatch.setattr(runtime, "has_fast_bf16", lambda: hardware)
    assert resolve_precision(precision, device) == taken


def test_an_unknown_precision_is_refused() -> None:
    with pytest.raises(BadConfig, match="int4"):
        resolve_precision("int4", "cpu")
