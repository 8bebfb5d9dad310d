"""Where a reranker runs: its device, its runtime and its numbers."""

from __future__ import annotations

from typing import Literal, NamedTuple

from retrieval.encoders.runtime import RuntimeName, check_runtime, pick_device, resolve_precision
from retrieval.errors import BadConfig


class Placement(NamedTuple):
    """Where a cross-encoder runs, by what, and in which numbers."""

    device: Literal["cpu", "cuda"]
    runtime: RuntimeName
    precision: Literal["fp32", "bf16", "int8"]

    def __str__(self) -> str:
        """As a person reads it.

        >>> str(Placement("cpu", "openvino", "int8"))
        'cpu: openvino, int8'
        """
        return f"{self.device}: {self.runtime}, {self.precision}"


def resolve_placement(device: str = "auto", precision: str = "auto", runtime: RuntimeName = "openvino") -> Placement:
    """Where a cross-encoder comes to run if so much is asked for; CUDA is served by torch.

    `auto` is bf16 on CUDA and on CPUs that multiply it in hardware; others take fp32, for bf16 too. What is between the
    whole numbers of int8 is what auto takes. (A release's own auto may be int8: see `serving.steps`.) Raises BadConfig
    for int8 on CUDA, and for what is not known; MissingDependency where torch is needed and not installed.
    """
    check_runtime(runtime)
    if precision not in ("auto", "fp32", "bf16", "int8"):
        raise BadConfig(f"precision {precision!r} is not known; use auto, fp32, bf16 or int8")
    where = pick_device(device)
    if precision != "int8":
        return Placement(where, "torch" if where == "cuda" else runtime, resolve_precision(precision, where))
    if where == "cuda":
        raise BadConfig("precision int8 is of CPUs, and the models run on cuda; use bf16 or device=cpu")
    return Placement(where, runtime, "int8")
