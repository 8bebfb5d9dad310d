"""What workers share: all answer from another release at once."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from serving.http import board as board_module
from serving.http.board import Board, WorkerSwitch


def test_no_worker_answers_from_a_release_before_all_are_ready() -> None:
    board = Board(3)
    board.want("b")
    with ThreadPoolExecutor(3) as threads:
        first = [threads.submit(board.wait_for_others, worker, "b") for worker in (0, 1)]
        time.sleep(0.05)
        board.settle([0, 1, 2])
        time.sleep(0.05)
        assert not any(one.done() for one in first)
        last = threads.submit(board.wait_for_others, 2, "b")
        while not board.settled:
            board.settle([0, 1, 2])
        assert [one.result(10) for one in (*first, last)] == [True, True, True]


def test_workers_that_live_no_more_are_not_waited_for() -> None:
    board = Board(2)
    board.want("b")
    assert board.ready(0, "b") == 1
    board.settle([0])
    assert board.settled
    assert board.wait_for_others(0, "b")


def test_a_worker_that_takes_the_place_of_another_is_waited_for() -> None:
    board = Board(2)
    board.want("a")
    for worker in (0, 1):
        board.ready(worker, "a")
    board.settle([0, 1])
    board.want("b")
    board.ready(0, "b")
    board.ready(1, "b")
    board.clear(1)  # it was killed, and its place is taken
    board.settle([0, 1])
    assert not board.settled
    WorkerSwitch(board, 1).answers("b")  # opened with what is live
    board.settle([0, 1])
    assert board.settled


def test_what_is_not_wanted_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(board_module, "LONGEST_UNWANTED", 0.01)
    board = Board(1)
    board.want("c")
    assert not WorkerSwitch(board, 0).ready("b")
    assert WorkerSwitch(board, 0).wanted() == "c"


def test_what_is_wanted_a_moment_later_is_waited_for() -> None:
    board = Board(1)
    board.want("a")
    with ThreadPoolExecutor(1) as threads:
        found = threads.submit(board.wait_for_others, 0, "b")
        time.sleep(0.02)
        board.want("b")
        while not board.settled:
            board.settle([0])
        assert found.result(10)


def test_a_worker_that_never_gets_ready_keeps_the_others_for_a_while_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(board_module, "LONGEST_WAIT", 0.05)
    board = Board(2)
    board.want("b")
    assert board.wait_for_others(0, "b")
    assert not board.settled


def test_before_the_first_release_nothing_is_wanted() -> None:
    assert WorkerSwitch(Board(1), 0).wanted() is None
