"""Threads of a training on the CPU: as many as there are cores that other programs leave free.

Threads of one step wait for each other by spinning. Where other programs hold a core, a thread that waits for it spins
in vain on the rest, and a step on two threads takes several times as long as on one.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from retrieval.encoders.runtime import affinity_cores, available_cores

STAT = Path("/proc/stat")
WATCHED = 0.5  # seconds over which other programs are watched
IDLE = (3, 4)  # fields of a core's times in /proc/stat: idle, and waiting for input


@contextmanager
def free_cores(what: str, device: str, say: Callable[[str], None]) -> Iterator[None]:
    """Runs the training `what` on the cores that are free as it begins, at least one; a line says so if not on all.

    Never takes more threads than torch has now, and gives those back at the end. Does nothing on a GPU.
    """
    import torch

    before = torch.get_num_threads()
    if device != "cpu" or before == 1:
        yield
        return
    allowed, busy = min(before, available_cores()), busy_cores()
    threads = threads_beside(busy, affinity_cores(), allowed)
    if allowed < before:
        say(f"{what}: {allowed} of {before} threads, because the CPU quota of this container allows no more")
    if threads < allowed:
        say(f"{what}: {threads} of {allowed} threads, because other programs keep {busy:.1f} cores busy")
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def threads_beside(busy: float, cores: int, allowed: int) -> int:
    """The threads of a training on a machine of so many cores, `busy` of them in use; between 1 and `allowed`.

    >>> threads_beside(0.3, 2, 2), threads_beside(0.8, 2, 2), threads_beside(4.0, 2, 2), threads_beside(4.0, 16, 8)
    (2, 1, 1, 8)
    """
    return max(1, min(allowed, round(cores - busy)))


def busy_cores(seconds: float = WATCHED) -> float:
    """How many cores other programs use, of those that this process may use.

    Measured while this thread sleeps; where the system does not tell times of cores, the load average of a minute.
    """
    before = _times()
    if not before:
        return os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0
    time.sleep(seconds)
    shares = [_busy_share(before[core], after) for core, after in _times().items() if core in before]
    return float(sum(shares))


def _times() -> dict[int, list[int]]:
    """The times of each core that this process may use, by its number."""
    if not STAT.exists() or not hasattr(os, "sched_getaffinity"):
        return {}
    lines = (line.split() for line in STAT.read_text("ascii").splitlines())
    cores = {int(name[3:]): list(map(int, times)) for name, *times in lines if name[:3] == "cpu" and name[3:]}
    return {core: times for core, times in cores.items() if core in os.sched_getaffinity(0)}


def _busy_share(before: list[int], after: list[int]) -> float:
    passed = [late - early for early, late in zip(before, after, strict=True)][:8]  # guests are counted in the first
    whole = sum(passed)
    return 1 - sum(passed[at] for at in IDLE) / whole if whole else 0.0
