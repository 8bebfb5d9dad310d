"""One thread of BLAS while a caller is inside, and what there was before once all have left."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from threadpoolctl import ThreadpoolController

from retrieval.blas import one_blas_thread


@pytest.fixture(autouse=True)
def two_threads() -> Iterator[None]:
    """Two of them, on any machine."""
    with ThreadpoolController().limit(limits=2, user_api="blas"):
        yield


def threads() -> set[int]:
    return {one.num_threads for one in ThreadpoolController().select(user_api="blas").lib_controllers}


def fails() -> None:
    with one_blas_thread():
        assert threads() == {1}
        raise ValueError("inside")


def test_an_error_gives_the_threads_back() -> None:
    for _ in range(2):
        with pytest.raises(ValueError, match="inside"):
            fails()
        assert threads() == {2}


def test_many_callers_leave_what_there_was() -> None:
    some = np.random.default_rng(0).normal(size=(200, 200))

    def ask(_: int) -> float:
        with one_blas_thread():
            return float((some @ some)[0, 0])

    with ThreadPoolExecutor(8) as pool:
        found = set(pool.map(ask, range(200)))
    assert len(found) == 1
    assert threads() == {2}
