"""Serving a transformer on a CUDA device: body in bfloat16, small batches replayed from CUDA graphs.

For the small batch of a request most of the time is kernel launches, which a CUDA graph saves. See
https://pytorch.org/docs/stable/notes/cuda.html#cuda-graphs.
"""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from retrieval.encoders.batching import padded_length
from retrieval.encoders.runtime import CUDA_TOKENS, FORKED_GPU
from retrieval.errors import BadConfig

GRAPH_TOKENS = 1 << 14  # largest batch that is replayed from a graph; larger ones keep the device busy anyway
MAX_GRAPHS = 256  # graphs kept per model; the least recently used is dropped
GRAPH_MULTIPLE = 16  # lengths in a graph are padded to a multiple of this
WARM_UP = 2  # runs before a graph is captured, in which libraries choose their kernels

_recording = threading.Lock()  # a process captures one graph at a time


class Graph(NamedTuple):
    """A captured graph with its static tensors: inputs int64 [3, rows, length] and output [rows, ...]."""

    inputs: torch.Tensor
    output: torch.Tensor
    recording: torch.cuda.CUDAGraph


class CudaRunner:
    """A Runner over a module that maps (input_ids, attention_mask, token_type_ids) to one row per text.

    A call raises BadConfig in a forked process.
    """

    budget_tokens = CUDA_TOKENS
    streams = 1

    def __init__(self, module: torch.nn.Module, longest: int, *, graphs: bool = True) -> None:
        self._module, self._longest = module.to("cuda").eval(), longest
        self._graph_tokens = GRAPH_TOKENS if graphs else 0
        self._graphs: OrderedDict[tuple[int, int], Graph] = OrderedDict()
        self._pool = torch.cuda.graph_pool_handle()  # shared, because graphs are replayed one at a time
        self._one_at_a_time = threading.Lock()
        self._process = os.getpid()

    def __call__(
        self, input_ids: NDArray[np.int64], attention_mask: NDArray[np.int64], token_type_ids: NDArray[np.int64]
    ) -> NDArray[np.float32]:
        if os.getpid() != self._process:
            raise BadConfig(FORKED_GPU)
        inputs = graph_inputs(input_ids, attention_mask, token_type_ids, self._longest)
        if inputs[0].size <= self._graph_tokens:
            with self._one_at_a_time, torch.inference_mode():
                graph = self._recorded(*inputs.shape[1:])
                if graph is not None:
                    graph.inputs.copy_(torch.from_numpy(inputs))
                    graph.recording.replay()
                    return graph.output[: len(input_ids)].float().cpu().numpy()
        return self._run(np.stack((input_ids, attention_mask, token_type_ids)))

    def _run(self, inputs: NDArray[np.int64]) -> NDArray[np.float32]:
        with torch.inference_mode():
            return self._module(*torch.from_numpy(inputs).to("cuda")).float().cpu().numpy()  # type: ignore[no-any-return]

    def _recorded(self, rows: int, length: int) -> Graph | None:
        """The graph of a shape, captured on first use; None, from then on, if the model cannot be captured."""
        if (rows, length) not in self._graphs:
            try:
                with _recording:
                    self._graphs[rows, length] = self._record(rows, length)
            except RuntimeError:  # the model synchronises or copies from the host while it runs
                self._graph_tokens = 0
                return None
            if len(self._graphs) > MAX_GRAPHS:
                self._graphs.popitem(last=False)
        self._graphs.move_to_end((rows, length))
        return self._graphs[rows, length]

    def _record(self, rows: int, length: int) -> Graph:
        inputs = torch.ones(3, rows, length, dtype=torch.int64, device="cuda")
        stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(WARM_UP):
                self._module(*inputs)
        torch.cuda.current_stream().wait_stream(stream)
        recording = torch.cuda.CUDAGraph()
        with torch.cuda.graph(recording, pool=self._pool, capture_error_mode="thread_local"):
            output = self._module(*inputs)
        return Graph(inputs, output, recording)


def body_in_bf16(body: torch.nn.Module, readers: Iterable[torch.nn.Module]) -> None:
    """Converts a model's body to bfloat16, while `readers`, the modules that read its output, compute in float32.

    A pooled vector or a logit in bfloat16 has three digits, too few for unit length or to distinguish two items.
    """
    body.to(torch.bfloat16)
    for part in readers:
        part.register_forward_pre_hook(lambda _, given: _in_float32(given))


def _in_float32(given: Any) -> Any:
    """Floating-point tensors in tuples and dictionaries as float32, everything else unchanged."""
    if isinstance(given, torch.Tensor):
        return given.float() if given.is_floating_point() else given
    if isinstance(given, tuple):
        return tuple(map(_in_float32, given))
    return {name: _in_float32(value) for name, value in given.items()} if isinstance(given, dict) else given


def graph_inputs(
    input_ids: NDArray[np.int64], attention_mask: NDArray[np.int64], token_type_ids: NDArray[np.int64], longest: int
) -> NDArray[np.int64]:
    """A batch padded to one of few shapes, int64 [3, rows, length], at most `longest` tokens long.

    An added row attends to one padding token, so that its attention is defined.

    >>> graph_inputs(np.full((5, 9), 7), np.ones((5, 9), int), np.zeros((5, 9), int), 512).shape
    (3, 5, 16)
    """
    n, length = input_ids.shape
    padded = max(length, min(longest, int(padded_length(np.array(length), GRAPH_MULTIPLE))))
    inputs = np.zeros((3, graph_rows(n), padded), np.int64)
    inputs[:, :n, :length] = input_ids, attention_mask, token_type_ids
    inputs[1, n:, 0] = 1
    return inputs


def graph_rows(n: int) -> int:
    """`n` rounded up to one of few numbers: each up to 8, from there on four per power of two.

    >>> [graph_rows(n) for n in (1, 7, 9, 13, 25, 100, 129)]
    [1, 7, 10, 14, 28, 112, 160]
    """
    step = 1 << max(0, (n - 1).bit_length() - 3)
    return -(-n // step) * step
