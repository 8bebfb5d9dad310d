"""The machine of a measurement: processor, libraries, commit, and a fixed probe of its current speed."""

from __future__ import annotations

import platform
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from retrieval.data.schema import CONTRACT
from retrieval.encoders.runtime import available_cores, pick_device
from retrieval.errors import BadData
from retrieval.extras import installed_versions
from retrieval.fingerprint import fingerprint, remembered_sha256

SIDE = 1_024  # rows and columns of the probe's float32 matrices
COPIED = 64 * 2**20  # bytes that the probe copies: more than the processor's caches hold
ROUNDS = 12  # of each probe; the best counts, since other processes can only slow it


class Probe(NamedTuple):
    """The speed of the machine at one time."""

    gflops: float  # float32 matrix product, 10^9 operations a second
    gbytes: float  # memory copy, 10^9 bytes a second read and as many written

    def differs_from(self, other: Probe, share: float) -> bool:
        """Whether either rate differs from the other probe's by more than a share of it.

        >>> Probe(100, 10).differs_from(Probe(95, 10), 0.1), Probe(100, 10).differs_from(Probe(100, 8), 0.1)
        (False, True)
        """
        return any(abs(own / theirs - 1) > share for own, theirs in zip(self, other, strict=True))


def probe(*, rounds: int = ROUNDS, clock: Callable[[], float] = time.perf_counter) -> Probe:
    """The best of some matrix products and memory copies; takes less than a second."""
    left = np.random.default_rng(0).random((SIDE, SIDE), np.float32)
    out, source = np.empty_like(left), np.ones(COPIED, np.uint8)
    target = np.empty_like(source)
    product = _best(lambda: np.matmul(left, left, out=out), rounds, clock)
    copy = _best(lambda: np.copyto(target, source), rounds, clock)
    return Probe(round(2 * SIDE**3 / product / 1e9, 2), round(COPIED / copy / 1e9, 2))


def _best(work: Callable[[], object], rounds: int, clock: Callable[[], float]) -> float:
    spent = []
    for _ in range(rounds + 1):  # the first round touches the memory
        begun = clock()
        work()
        spent.append(clock() - begun)
    return min(spent[1:])


def machine(device: str = "cpu") -> dict[str, str]:
    """Processor, GPU if models run there, cores, system, Python, libraries and commit."""
    return {
        "processor": _processor(),
        **_gpu(device),
        "cores": str(available_cores()),
        "system": platform.platform(),
        "python": platform.python_version(),
        "commit": _commit(),
        **installed_versions("shortlist", "numpy", "openvino", "torch"),
    }


def data_fingerprint(folder: Path) -> str:
    """The fingerprint of a data set's files, whatever the folder's name; equals `DataSet.fingerprint`. Raises
    BadData."""
    try:
        return fingerprint({name: remembered_sha256(folder / name) for name in CONTRACT if (folder / name).exists()})
    except OSError as error:
        raise BadData(f"{folder}: cannot be read ({error.strerror}); make it readable for this user") from error


def command_line(arguments: Sequence[str]) -> str:
    """The command to type to repeat this run, made of `sys.argv`.

    >>> command_line(["/usr/bin/shortlist", "bench", "latency", "my bundle"])
    "shortlist bench latency 'my bundle'"
    >>> command_line(["/src/benchmarks/__main__.py", "latency", "bundle"])
    'shortlist bench latency bundle'
    """
    given = list(arguments[1:])
    return shlex.join(["shortlist", *([] if given[:1] == ["bench"] else ["bench"]), *given])


def peak_memory() -> dict[str, float]:
    """The most memory, in 10^6 bytes, that this process has held since the previous call, on the host and on a GPU.

    Where the kernel cannot reset that mark (Linux can,
    https://man7.org/linux/man-pages/man5/proc_pid_clear_refs.5.html), it is the most since the process started, as
    `peak MB so far`.
    """
    import resource

    status, found = Path("/proc/self/status"), dict[str, float]()
    try:
        lines = status.read_text("utf-8").splitlines()
        held = next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:"))
        Path("/proc/self/clear_refs").write_text("5", "utf-8")
        found["peak MB"] = held * 1_024 / 1e6
    except (OSError, StopIteration):
        found["peak MB so far"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1_024 / 1e6
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        found["peak GPU MB"] = torch.cuda.max_memory_allocated() / 1e6
        torch.cuda.reset_peak_memory_stats()
    return found


def held_memory() -> float | None:
    """The memory, in 10^6 bytes, that this process holds now (its resident set); None where the system does not say."""
    try:
        lines = Path("/proc/self/status").read_text("utf-8").splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) * 1_024 / 1e6 for line in lines if line.startswith("VmRSS:")), None)


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())


def _gpu(device: str) -> dict[str, str]:
    if pick_device(device) == "cpu":
        return {}
    import torch

    return {"gpu": torch.cuda.get_device_name()}


def _commit() -> str:
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty"]
    try:
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "not a git checkout"
