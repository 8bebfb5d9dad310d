"""OpenVINO as one process uses it: compiled graphs, their infer requests, and what a forked child has to know.

A compiled graph has threads, which a forked child does not get: an inference in the child would wait for them for
ever. The child compiles its own. It must neither use nor destroy what its parent compiled, because a destructor joins
those threads, and it must not be handed their executor: OpenVINO's executor manager
(https://github.com/openvinotoolkit/openvino/blob/master/src/inference/src/dev/threading/executor_manager.cpp)
keeps the executors of graphs that were released and gives them to the next one.
"""

from __future__ import annotations

import ctypes
import os
import sys
import threading
import weakref
from collections import deque
from functools import cache
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import openvino


@cache
def openvino_library() -> ModuleType:
    """The OpenVINO module with its telemetry disabled, by hiding the package that would send it.

    One tensor is read before any thread does: the first read fills a static table of OpenVINO's, and of two threads
    that come to it at once, one holds the table and waits for Python's lock, the other has that and waits for the
    table.
    """
    if "openvino" not in sys.modules:
        sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    library = import_module("openvino")
    np.asarray(library.Tensor(np.zeros(1, np.int64)).data)
    return library


@cache
def openvino_core() -> openvino.Core:
    """The one Core of the process, and of its forked children."""
    core: openvino.Core = openvino_library().Core()
    os.register_at_fork(before=_release_idle_executors, after_in_child=_leave_to_the_parent)
    return core


class CompiledGraph:
    """A graph compiled for the CPU in this process. Safe to call from many threads.

    Each call has an infer request of its own, because they cannot be shared.
    """

    def __init__(self, graph: openvino.Model, hints: dict[str, str | int]) -> None:
        self.process = os.getpid()
        self._compiled = openvino_core().compile_model(graph, "CPU", hints)
        self._idle: deque[openvino.InferRequest] = deque()
        self._names = frozenset(name for port in self._compiled.inputs for name in port.names)
        _GRAPHS.add(self)

    def infer(self, inputs: dict[str, NDArray[np.generic]]) -> NDArray[np.float32]:
        """The first output for `inputs` by name, float32; inputs that the graph does not have are ignored."""
        try:
            request = self._idle.pop()
        except IndexError:
            request = self._compiled.create_infer_request()
        try:
            outputs = request.infer({name: value for name, value in inputs.items() if name in self._names})
            return np.array(outputs[self._compiled.outputs[0]], np.float32)
        finally:
            self._idle.append(request)

    def executed(self) -> openvino.Model:
        """The graph as OpenVINO runs it, with the precision of each of its layers."""
        return self._compiled.get_runtime_model()


class GraphPerProcess:
    """A graph that is compiled at once, and again by each forked child at its first inference."""

    compiling: ClassVar[threading.Lock] = threading.Lock()

    def __init__(self, graph: openvino.Model, hints: dict[str, str | int]) -> None:
        self._graph, self._hints = graph, hints
        self._compiled = CompiledGraph(graph, hints)

    def compiled(self) -> CompiledGraph:
        """The graph as this process compiled it."""
        if self._compiled.process != os.getpid():
            with GraphPerProcess.compiling:
                if self._compiled.process != os.getpid():
                    self._compiled = CompiledGraph(self._graph, self._hints)
        return self._compiled


_GRAPHS: weakref.WeakSet[CompiledGraph] = weakref.WeakSet()


def _release_idle_executors() -> None:
    """Ends the executors of released graphs before a fork: the destructor of a CPU plugin clears the manager's list."""
    core = openvino_library().Core()
    core.get_property("CPU", "FULL_DEVICE_NAME")  # loads a plugin
    del core


def _leave_to_the_parent() -> None:
    """In a forked child: keeps the parent's graphs from ever being destroyed, even when the interpreter ends."""
    GraphPerProcess.compiling = threading.Lock()
    for kept in (openvino_core(), *_GRAPHS):
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(kept))
    _GRAPHS.clear()
