"""Matrix products of a request on one thread of BLAS.

Threads of OpenBLAS go on asking for work, some 25 ms after a product has ended (`THREAD_TIMEOUT` of
https://github.com/OpenMathLib/OpenBLAS/blob/develop/driver/others/blas_server.c), on cores that a cross-encoder is
waiting for: a search is half as fast with them.
"""

from __future__ import annotations

import threading
from functools import cached_property
from types import TracebackType

from threadpoolctl import LibController, ThreadpoolController


class OneThread:
    """While anybody is inside, BLAS has one thread in this process; what it had before, once the last has left.

    Callers of many threads may be inside at once. Products of others meanwhile have one thread, too.
    """

    def __init__(self) -> None:
        self._lock, self._inside = threading.Lock(), 0
        self._before: list[int] = []

    def __enter__(self) -> None:
        with self._lock:
            if not self._inside:
                self._before = [library.num_threads for library in self._libraries]
                self._set([1] * len(self._before))
            self._inside += 1

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        with self._lock:
            self._inside -= 1
            if not self._inside:
                self._set(self._before)

    def _set(self, numbers: list[int]) -> None:
        for library, number in zip(self._libraries, numbers, strict=True):
            library.clear_controlling_thread(force=True)  # whoever comes last sets what whoever came first did
            library.set_num_threads(number)

    @cached_property
    def _libraries(self) -> list[LibController]:
        """OpenBLAS with threads of a process, where it is loaded by the first time; those of OpenMP are each
        caller's own."""
        found = ThreadpoolController().select(internal_api="openblas").lib_controllers
        return [library for library in found if library.threading_layer != "openmp"]


ONE_BLAS_THREAD = OneThread()
