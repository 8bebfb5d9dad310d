"""Where a reranker runs: its device, its runtime and its numbers."""

from __future__ import annotations

from typing import Literal, NamedTuple

from retrieval.encoders.runtime import RuntimeName, check_runtime, pick_device, resolve_precision
from retrieval.errors import BadConfig


class Placement(NamedTuple):
    """The device, the runtime and the numbers that a reranker runs with."""

    device: Literal["cpu", "cuda"]
    runtime: RuntimeName
    precision: Literal["fp32", "bf16", "int8"]

    def __str__(self) -> str:
        """As text.

        >>> str(Placement("cpu", "openvino", "int8"))
        'cpu: openvino, int8'
        """
        return f"{self.device}: {self.runtime}, {self.precision}"


def resolve_placement(device: str = "auto", precision: str = "auto", runtime: RuntimeName = "openvino") -> Placement:
    """The placement that a device, a precision and a runtime of settings lead to; CUDA is always served by torch.

    Precision `auto` and `bf16` are bf16 on CUDA and on CPUs that multiply it in hardware, else fp32. Around the int8
    layers of an int8 model, numbers are those of `auto`. (The `auto` of a release may also mean int8, which
    `RecordedStep.placed` of serving decides.) Raises BadConfig for int8 on CUDA, and for an unknown device or
    precision; MissingDependency where torch is needed and not installed.
    """
    check_runtime(runtime)
    if precision not in ("auto", "fp32", "bf16", "int8"):
        raise BadConfig(f"precision {precision!r} is not known; use auto, fp32, bf16 or int8")
    where = pick_device(device)
    if precision != "int8":
        return Placement(where, "torch" if where == "cuda" else runtime, resolve_precision(precision, where))
    if where == "cuda":
        raise BadConfig("precision int8 runs on CPUs only, and the device is cuda; use precision bf16, or device=cpu")
    return Placement(where, runtime, "int8")
