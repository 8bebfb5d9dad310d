"""Calls that run in a forked child, and forks that wait for calls."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar

import pytest

from forking import succeeds_in_child
from serving.answering.forked import ForkGuard


@pytest.fixture
def guard() -> ForkGuard:
    return ForkGuard()


def test_a_parent_runs_a_call_on_the_thread_that_asks(guard: ForkGuard) -> None:
    assert guard.run(threading.get_ident) == threading.get_ident()


def test_a_child_runs_the_calls_of_the_thread_that_forked_on_one_of_its_own(guard: ForkGuard) -> None:
    said = ContextVar("said", default="")
    said.set("in the caller")

    def fails() -> None:
        raise ValueError("in the call")

    def calls() -> None:
        guard.after_fork_in_child()
        own = guard.run(threading.get_ident)
        assert own != threading.get_ident()
        assert guard.run(threading.get_ident) == own
        assert guard.run(lambda: guard.run(threading.get_ident)) == own
        assert guard.run(said.get) == "in the caller"
        with pytest.raises(ValueError, match="in the call"):
            guard.run(fails)
        with ThreadPoolExecutor(1) as pool:
            assert pool.submit(lambda: guard.run(threading.get_ident) == threading.get_ident()).result()

    assert succeeds_in_child(calls)


def test_a_fork_waits_for_calls_and_calls_for_the_fork(guard: ForkGuard) -> None:
    entered, go_on, forking = threading.Event(), threading.Event(), threading.Event()
    order: list[str] = []

    def slow() -> None:
        entered.set()
        assert go_on.wait(20)
        order.append("call")

    def fork() -> None:
        forking.set()
        guard.before_fork()
        order.append("fork")
        guard.after_fork_in_parent()

    with ThreadPoolExecutor(3) as pool:
        calls = [pool.submit(guard.run, slow)]
        assert entered.wait(20)
        forks = pool.submit(fork)
        assert forking.wait(20)
        while not guard._forking:
            pass
        calls.append(pool.submit(guard.run, lambda: order.append("later call")))
        go_on.set()
        for one in (*calls, forks):
            one.result(20)
    assert order == ["call", "fork", "later call"]


def test_a_call_may_fork_itself(guard: ForkGuard) -> None:
    def forks() -> bool:
        guard.before_fork()
        guard.after_fork_in_parent()
        return True

    assert guard.run(forks)
