"""Running a transformer: device and precision, batching by length, OpenVINO and torch behind one protocol."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from itertools import islice
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Literal, NamedTuple, Protocol, TypeAlias, get_args

import numpy as np
from numpy.typing import NDArray

from retrieval.errors import BadConfig, MissingDependency
from retrieval.extras import require
from retrieval.fingerprint import remembered_sha256

if TYPE_CHECKING:
    import openvino
    import torch

Device: TypeAlias = Literal["auto", "cpu", "cuda"]
Precision: TypeAlias = Literal["auto", "fp32", "bf16"]
RuntimeName: TypeAlias = Literal["openvino", "torch"]
RUNTIMES: tuple[str, ...] = get_args(RuntimeName)


@dataclass(frozen=True, kw_only=True)
class RuntimeOptions:
    """The device, precision and runtime that models are served with.

    `runtime` applies to CPUs; CUDA always runs torch. `precision` int8 applies to cross-encoders alone.
    """

    device: str = "auto"
    precision: str = "auto"
    runtime: RuntimeName = "openvino"


DEFAULT_RUNTIME = RuntimeOptions()
Batch: TypeAlias = tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]  # ids, mask, segments, [b, l] each

BUDGET_TOKENS = 1024  # tokens of a batch on a CPU, padding included; larger ones exceed a core's cache
MAX_STREAMS = 8  # batches that run at once on a CPU
CUDA_TOKENS = 1 << 16  # tokens of a batch on a GPU
SUMS = ".sha256"  # suffix of the checksums beside a graph
MULTIPLE = 4  # lengths are padded to a multiple of this, so that few distinct shapes are seen
EVEN_BELOW = 16  # batches per stream up to which batches are balanced between streams


class Encoded(NamedTuple):
    """Token ids and segment ids of n texts or pairs, one list each."""

    ids: list[list[int]]
    segments: list[list[int]]

    @property
    def lengths(self) -> NDArray[np.int64]:
        """The number of tokens of each text, int64 [n]."""
        return np.fromiter((len(row) for row in self.ids), np.int64, len(self.ids))


class Runner(Protocol):
    """A compiled model: a padded batch, int64 [b, l] each, to one row per text, float32 [b, ...]. Thread-safe.

    `budget_tokens` is the best size of a batch in tokens, padding included; `streams` the number of batches that run at
    once.
    """

    @property
    def budget_tokens(self) -> int: ...
    @property
    def streams(self) -> int: ...

    def __call__(
        self, input_ids: NDArray[np.int64], attention_mask: NDArray[np.int64], token_type_ids: NDArray[np.int64]
    ) -> NDArray[np.float32]: ...


def available_cores() -> int:
    """The number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def check_runtime(name: str) -> None:
    """Raises BadConfig for a runtime that is not known, MissingDependency for torch where it is not installed."""
    if name not in RUNTIMES:
        raise BadConfig(f"runtime {name!r} is not known; use {' or '.join(RUNTIMES)}")
    if name == "torch":
        require("torch", "runtime=torch")


def pick_device(wanted: str) -> Literal["cpu", "cuda"]:
    """`auto` takes CUDA where torch finds one. Raises MissingDependency for `cuda` where there is none."""
    if wanted == "cpu":
        return "cpu"
    if wanted not in ("auto", "cuda"):
        raise BadConfig(f"device {wanted!r} is not known; use auto, cpu or cuda")
    found = _has_cuda()
    if wanted == "cuda" and not found:
        require("torch", "device=cuda")
        raise MissingDependency("device=cuda: torch sees no CUDA device here; use device=cpu or install a CUDA build")
    return "cuda" if found else "cpu"


@cache
def _has_cuda() -> bool:
    """Asking torch costs seconds of import, so a machine without NVIDIA's driver is not asked."""
    if not (Path("/proc/driver/nvidia").exists() or shutil.which("nvidia-smi")) or find_spec("torch") is None:
        return False
    import torch

    return torch.cuda.is_available()


@cache
def has_fast_bf16() -> bool:
    """Whether this CPU multiplies bfloat16, and so int8 too, in hardware; emulation is hundreds of times slower."""
    return "BF16" in _core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")


def resolve_precision(precision: str, device: str) -> Literal["fp32", "bf16"]:
    """The precision to run in: bf16 where it was not declined and the hardware has it, else fp32.

    Raises BadConfig for an unknown precision.
    """
    if precision not in ("auto", "fp32", "bf16"):
        raise BadConfig(f"precision {precision!r} is not known; use auto, fp32 or bf16")
    return "bf16" if precision != "fp32" and (device == "cuda" or has_fast_bf16()) else "fp32"


def training_bf16(device: str) -> bool:
    """Whether training runs under bfloat16 autocast on this machine."""
    return device == "cuda" or has_fast_bf16()


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


@cache
def _library() -> ModuleType:
    """The OpenVINO module with its telemetry disabled, by hiding the package that would send it."""
    if "openvino" not in sys.modules:
        sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    return import_module("openvino")


@cache
def _core() -> openvino.Core:
    core: openvino.Core = _library().Core()
    return core


@dataclass(frozen=True)
class OpenVinoModel:
    """A compiled OpenVINO graph; each thread has its own infer request, because they cannot be shared."""

    compiled: openvino.CompiledModel
    local: threading.local
    streams: int = 1
    budget_tokens: int = BUDGET_TOKENS

    @classmethod
    def compile(cls, model: openvino.Model | Path, precision: str = "fp32") -> OpenVinoModel:
        """Compiles for the CPU with one stream per core, because cores sharing a batch wait for each other."""
        cores = available_cores()
        streams = min(cores, MAX_STREAMS)
        hints = {
            "NUM_STREAMS": streams,
            "INFERENCE_NUM_THREADS": cores,
            "INFERENCE_PRECISION_HINT": "bf16" if precision == "bf16" else "f32",
        }
        return cls(_core().compile_model(model, "CPU", hints), threading.local(), streams)

    def infer(self, inputs: dict[str, NDArray[np.generic]]) -> NDArray[np.float32]:
        """The first output for `inputs` by name, float32; inputs that the graph does not have are ignored."""
        request = getattr(self.local, "request", None)
        if request is None:
            request = self.local.request = self.compiled.create_infer_request()
        names = {name for port in self.compiled.inputs for name in port.names}
        outputs = request.infer({name: value for name, value in inputs.items() if name in names})
        return np.array(outputs[self.compiled.outputs[0]], np.float32)

    def __call__(
        self, input_ids: NDArray[np.int64], attention_mask: NDArray[np.int64], token_type_ids: NDArray[np.int64]
    ) -> NDArray[np.float32]:
        return self.infer({"input_ids": input_ids, "attention_mask": attention_mask, "token_type_ids": token_type_ids})


def openvino_model(path: Path | None, build: Callable[[], openvino.Model], precision: str = "fp32") -> OpenVinoModel:
    """The graph cached at `path` (an `.xml`); if missing, it is built by `build` and cached if the folder is writable.

    `build` may import torch, which a service that finds the graph never does. A cached graph that differs from its
    checksums or does not open is built again. Raises MissingDependency where one has to be built and torch is not
    installed.
    """
    if path is not None and _is_whole(path):
        with suppress(RuntimeError):
            return OpenVinoModel.compile(path, precision)
    require("torch", f"{path or 'a graph'}: there is no whole OpenVINO graph there, and making one")
    model = build()
    if path is not None:
        _save(model, path)
    return OpenVinoModel.compile(model, precision)


def _save(model: openvino.Model, path: Path) -> None:
    """Writes a graph to a temporary folder and renames it, the checksums last, so that it is never read half-written.

    Does nothing where the folder is read-only or the disk is full.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=".making-") as folder:
            made = Path(folder) / path.name
            _library().save_model(model, made, compress_to_fp16=False)
            made.with_suffix(SUMS).write_text(_sums(made), "utf-8")
            for suffix in (".bin", ".xml", SUMS):
                made.with_suffix(suffix).replace(path.with_suffix(suffix))
    except (OSError, RuntimeError):  # RuntimeError is OpenVINO's
        return


def _is_whole(path: Path) -> bool:
    """Whether both files of a graph exist and match their checksums."""
    try:
        return path.with_suffix(SUMS).read_text("utf-8") == _sums(path)
    except (OSError, UnicodeDecodeError):
        return False


def _sums(path: Path) -> str:
    """The checksums of both files of a graph, in the format of sha256sum."""
    files = (path, path.with_suffix(".bin"))
    return "".join(f"{remembered_sha256(file)}  {file.name}\n" for file in files)


def convert(module: torch.nn.Module, names: Sequence[str], example: Sequence[torch.Tensor]) -> openvino.Model:
    """Traces a torch module to an OpenVINO graph with inputs named `names`, for any batch size and length."""
    import warnings

    import torch

    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # tracing warns of branches that do not depend on the data
        model: openvino.Model = _library().convert_model(module.eval(), example_input=tuple(example))
    for port, name in zip(model.inputs, names, strict=True):
        port.get_tensor().set_names({name})
    model.validate_nodes_and_infer_types()
    return model


TOKEN_INPUTS = ("input_ids", "attention_mask", "token_type_ids")


def token_example() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """A small padded batch for tracing."""
    import torch

    ids = torch.ones(2, MULTIPLE, dtype=torch.long)
    mask = torch.ones_like(ids)
    mask[1, MULTIPLE // 2 :] = 0
    return ids, mask, torch.zeros_like(ids)


@dataclass(frozen=True)
class TorchRunner:
    """A Runner over a torch module that maps (input_ids, attention_mask, token_type_ids) to one row per text."""

    module: torch.nn.Module
    device: str
    precision: str

    streams = 1

    @property
    def budget_tokens(self) -> int:
        """See Runner."""
        return CUDA_TOKENS if self.device == "cuda" else BUDGET_TOKENS

    def __call__(
        self, input_ids: NDArray[np.int64], attention_mask: NDArray[np.int64], token_type_ids: NDArray[np.int64]
    ) -> NDArray[np.float32]:
        import torch

        inputs = [torch.from_numpy(array).to(self.device) for array in (input_ids, attention_mask, token_type_ids)]
        bf16 = torch.autocast(self.device, torch.bfloat16, enabled=self.precision == "bf16")
        with torch.inference_mode(), bf16:
            rows: torch.Tensor = self.module(*inputs)
        return rows.float().cpu().numpy()
