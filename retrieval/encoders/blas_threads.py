"""Limits BLAS to one thread while a request is answered.

OpenBLAS threads spin for about 25 ms after a product has ended (`THREAD_TIMEOUT` of
https://github.com/OpenMathLib/OpenBLAS/blob/develop/driver/others/blas_server.c), on cores that the cross-encoder
needs: a search takes twice as long with them.
"""

from __future__ import annotations

import os
import threading
from functools import cached_property
from types import TracebackType

from threadpoolctl import LibController, ThreadpoolController


class OneThread:
    """A context manager inside which BLAS has one thread in this process; the last one to leave restores the number.

    Several threads may be inside at once. Products of other threads meanwhile have one thread, too.
    """

    def __init__(self) -> None:
        self._before: list[int] = []
        self._begin()

    def _begin(self) -> None:
        self._lock, self._inside = threading.Lock(), 0

    def after_fork_in_child(self) -> None:
        """Lets out the threads that were inside, which a forked child does not have."""
        if self._inside:
            self._set(self._before)
        self._begin()

    def __enter__(self) -> None:
        with self._lock:
            if not self._inside:
                self._before = [library.num_threads for library in self._libraries]
                self._set([1] * len(self._before))
            self._inside += 1

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        with self._lock:
            self._inside = max(0, self._inside - 1)  # it is 0 already in a child that was forked inside
            if not self._inside:
                self._set(self._before)

    def _set(self, numbers: list[int]) -> None:
        for library, number in zip(self._libraries, numbers, strict=True):
            library.clear_controlling_thread(force=True)  # the last to leave may not be the first to enter
            library.set_num_threads(number)

    @cached_property
    def _libraries(self) -> list[LibController]:
        """The loaded OpenBLAS libraries with threads of the process; OpenMP's belong to each caller."""
        found = ThreadpoolController().select(internal_api="openblas").lib_controllers
        return [library for library in found if library.threading_layer != "openmp"]


ONE_BLAS_THREAD = OneThread()
os.register_at_fork(after_in_child=ONE_BLAS_THREAD.after_fork_in_child)
