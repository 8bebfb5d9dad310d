"""One thread of BLAS while anybody is inside, and what there was before once the last has left."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from threadpoolctl import ThreadpoolController

from retrieval.encoders.blas_threads import OneThread

LIBRARIES = [
    one
    for one in ThreadpoolController().select(internal_api="openblas").lib_controllers
    if one.threading_layer != "openmp"
]
pytestmark = pytest.mark.skipif(not LIBRARIES, reason="numpy has another BLAS here")


@pytest.fixture(autouse=True)
def two_threads() -> Iterator[None]:
    """Two of them, on any machine."""
    with ThreadpoolController().limit(limits=2, user_api="blas"):
        yield


def threads() -> set[int]:
    return {one.num_threads for one in LIBRARIES}


def test_the_last_to_leave_gives_the_threads_back() -> None:
    one, entered, leave = OneThread(), threading.Event(), threading.Event()

    def ask() -> None:
        with one:
            entered.set()
            assert leave.wait(20)

    other = threading.Thread(target=ask)
    with one:
        other.start()
        assert entered.wait(20)
        assert threads() == {1}
    assert threads() == {1}  # somebody is inside still
    leave.set()
    other.join()
    assert threads() == {2}


def test_an_error_gives_them_back_and_it_can_be_entered_again() -> None:
    one = OneThread()

    def fails() -> None:
        with one:
            assert threads() == {1}
            raise ValueError("inside")

    for _ in range(2):
        with pytest.raises(ValueError, match="inside"):
            fails()
        assert threads() == {2}


def test_many_callers_leave_what_there_was() -> None:
    one, some = OneThread(), np.random.default_rng(0).normal(size=(100, 100))

    def ask(_: int) -> float:
        with one:
            return float((some @ some)[0, 0])

    with ThreadPoolExecutor(8) as pool:
        assert len(set(pool.map(ask, range(500)))) == 1
    assert threads() == {2}
