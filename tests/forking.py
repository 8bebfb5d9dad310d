"""Forks within a test."""

from __future__ import annotations

import os
import signal
import traceback
import warnings
from collections.abc import Callable

GIVEN_UP = 120  # seconds, after which a child that hangs is ended by the system


def succeeds_in_child(work: Callable[[], object]) -> bool:
    """Whether work in a forked child ends, and without an error; that is printed."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # newer Pythons warn of a fork beside threads, which is what is tried here
        pid = os.fork()
    if pid == 0:
        signal.alarm(GIVEN_UP)
        try:
            work()
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    return os.waitpid(pid, 0)[1] == 0
