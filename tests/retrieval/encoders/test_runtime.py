"""Devices, precisions, and graphs that are cached."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import threading
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import openvino
import pytest

from retrieval.encoders import compiled_graph, runtime
from retrieval.encoders.batching import run_batched
from retrieval.encoders.runtime import (
    TOKEN_INPUTS,
    OpenVinoModel,
    convert,
    openvino_model,
    pick_device,
    resolve_precision,
    token_example,
)
from retrieval.errors import BadConfig, MissingDependency
from token_sums import Sums, by_hand, texts


def graph() -> openvino.Model:
    return convert(Sums(), TOKEN_INPUTS, token_example())


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


FIRST_READS = """
import threading
import openvino
from retrieval.encoders.runtime import OpenVinoModel
import numpy as np
import openvino.opset13 as ops
ids = ops.parameter([-1, -1], np.int64)
ids.output(0).tensor.set_names({"input_ids"})
model = OpenVinoModel.compile(openvino.Model([ops.result(ops.convert(ids, "f32"))], [ids]))
start, found = threading.Barrier(2), []
def read():
    start.wait()
    found.append(model.infer({"input_ids": np.ones((2, 3), np.int64)}).tolist())
threads = [threading.Thread(target=read) for _ in range(2)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
print(found)
"""


def test_the_first_two_inferences_of_a_process_do_not_wait_for_each_other() -> None:
    """They did now and then, for ever: OpenVINO fills a table at the first tensor that is read."""
    folder = Path(__file__).parents[3]
    ended = subprocess.run(
        [sys.executable, "-c", FIRST_READS], check=True, timeout=300, cwd=folder, capture_output=True, text=True
    )
    ones = [[1.0, 1.0, 1.0], [1.0, 1.0, 1.0]]
    assert ended.stdout.strip() == str([ones, ones])


def test_a_tensor_is_read_before_any_thread_can_come_to_it(monkeypatch: pytest.MonkeyPatch) -> None:
    read = list[bool]()

    class Tensor:
        def __init__(self, values: np.ndarray) -> None:
            self._values = values

        @property
        def data(self) -> np.ndarray:
            read.append(True)
            return self._values

    monkeypatch.setitem(sys.modules, "openvino", SimpleNamespace(Tensor=Tensor))
    compiled_graph.openvino_library.__wrapped__()
    assert read == [True]
