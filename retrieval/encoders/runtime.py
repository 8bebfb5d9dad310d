"""Running a transformer: device and precision, batching by length, OpenVINO and torch behind one protocol."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol, TypeAlias, get_args

import numpy as np
from numpy.typing import NDArray

from retrieval.encoders.compiled_graph import GraphPerProcess, openvino_core, openvino_library
from retrieval.encoders.cpu_quota import quota_cores
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


BUDGET_TOKENS = 1024  # tokens of a batch on a CPU, padding included; larger ones exceed a core's cache
MAX_STREAMS = 8  # batches that run at once on a CPU
CUDA_TOKENS = 1 << 16  # tokens of a batch on a GPU
SUMS = ".sha256"  # suffix of the checksums beside a graph
MULTIPLE = 4  # lengths are padded to a multiple of this, so that few distinct shapes are seen


FORKED_GPU = "a forked process cannot use its parent's GPU; start workers by spawn, or open the engine only in them"


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
    """The number of cores that this process may use at once: its affinity's, or fewer by a container's CPU quota."""
    cores = affinity_cores()
    return min(cores, quota_cores() or cores)


def affinity_cores() -> int:
    """The number of cores that this process may run on."""
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
    return "BF16" in openvino_core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")


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


@dataclass(frozen=True)
class OpenVinoModel:
    """A compiled OpenVINO graph. Safe to call from many threads; a forked child compiles it again."""

    graph: GraphPerProcess
    streams: int = 1
    budget_tokens: int = BUDGET_TOKENS

    @classmethod
    def compile(cls, model: openvino.Model | Path, precision: str = "fp32") -> OpenVinoModel:
        """Compiles for the CPU with one stream per core, because cores sharing a batch wait for each other.

        Raises RuntimeError where a file does not open.
        """
        cores = available_cores()
        streams = min(cores, MAX_STREAMS)
        hints: dict[str, str | int] = {
            "NUM_STREAMS": streams,
            "INFERENCE_NUM_THREADS": cores,
            "INFERENCE_PRECISION_HINT": "bf16" if precision == "bf16" else "f32",
        }
        graph = openvino_core().read_model(model) if isinstance(model, Path) else model
        return cls(GraphPerProcess(graph, hints), streams)

    def infer(self, inputs: dict[str, NDArray[np.generic]]) -> NDArray[np.float32]:
        """The first output for `inputs` by name, float32; inputs that the graph does not have are ignored."""
        return self.graph.compiled().infer(inputs)

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
    saved = path is not None and _save(model, path)
    return OpenVinoModel.compile(path if path is not None and saved else model, precision)


def _save(model: openvino.Model, path: Path) -> bool:
    """Writes a graph to a temporary folder and renames it, the checksums last, so that it is never read half-written.

    Does nothing where the folder is read-only or the disk is full, and returns whether it is written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=".making-") as folder:
            made = Path(folder) / path.name
            openvino_library().save_model(model, made, compress_to_fp16=False)
            made.with_suffix(SUMS).write_text(_sums(made), "utf-8")
            for suffix in (".bin", ".xml", SUMS):
                made.with_suffix(suffix).replace(path.with_suffix(suffix))
    except (OSError, RuntimeError):  # RuntimeError is OpenVINO's
        return False
    return True


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
        model: openvino.Model = openvino_library().convert_model(module.eval(), example_input=tuple(example))
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

    def __post_init__(self) -> None:
        """Takes no more of torch's threads than a container's CPU quota allows."""
        import torch

        if torch.get_num_threads() > available_cores():
            torch.set_num_threads(available_cores())

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
