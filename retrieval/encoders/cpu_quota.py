"""The share of a machine's cores that a container may use: the CPU quota of its control group."""

from __future__ import annotations

import math
from functools import cache
from pathlib import Path

ROOT, OWN = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")


@cache
def quota_cores() -> int | None:
    """The cores that this process's control group may use at once, rounded up; None without a quota."""
    return cores_within(ROOT, OWN)


def cores_within(root: Path, own: Path) -> int | None:
    """The smallest quota of a process's control group and of those around it, for both versions of control groups.

    `root` is where they are mounted; `own` names the process's, as in /proc/self/cgroup. See
    https://docs.kernel.org/admin-guide/cgroup-v2.html#cpu-interface-files.
    """
    found = [quota for folder in _groups(root, own) if (quota := _quota(folder)) is not None]
    return None if not found else max(1, math.ceil(min(found)))


def _groups(root: Path, own: Path) -> list[Path]:
    folders = [root, root / "cpu", root / "cpu,cpuacct"]  # in a container its own group is mounted as the root
    for line in _text(own).splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers and "cpu" not in controllers.split(","):
            continue
        top = root / controllers if controllers else root
        below = Path(path.lstrip("/"))
        folders += [top / part for part in (below, *below.parents) if ".." not in part.parts]
    return folders


def _quota(folder: Path) -> float | None:
    """The quota of one group in cores, None without one."""
    words = _text(folder / "cpu.max").split()  # version 2
    if not words:
        words = [_text(folder / f"cpu.cfs_{name}_us").strip() for name in ("quota", "period")]
    try:
        quota, period = map(int, words)
    except ValueError:  # "max", or there is none
        return None
    return quota / period if quota > 0 and period > 0 else None


def _text(path: Path) -> str:
    try:
        return path.read_text("ascii")
    except (OSError, UnicodeDecodeError):
        return ""
