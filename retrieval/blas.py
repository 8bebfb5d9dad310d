"""Matrix products of a request on one thread of BLAS.

Threads of OpenBLAS go on asking for work, some 25 ms after a product has ended (`THREAD_TIMEOUT` of
https://github.com/OpenMathLib/OpenBLAS/blob/develop/driver/others/blas_server.c), on cores that a cross-encoder is
waiting for: a search is half as fast with them. One query's products are bound by memory, which one thread fills.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from functools import cache
from typing import cast

from threadpoolctl import ThreadpoolController


def one_blas_thread() -> AbstractContextManager[object]:
    """While a caller is inside, BLAS has one thread; afterwards what it had before.

    OpenBLAS counts its threads for a whole process: of callers that are inside at once the first decides, and those
    that stay longer than it may meet more threads again.
    """
    return cast("AbstractContextManager[object]", _libraries().limit(limits=1, user_api="blas"))


@cache
def _libraries() -> ThreadpoolController:
    """Those that are loaded by the first time."""
    return ThreadpoolController()
