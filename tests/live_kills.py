"""Processes that record events and are killed at any moment: what of it is kept. Run as a script, of one process:

python tests/live_kills.py EVENTS.sqlite ITEM KILLS
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
from collections import Counter
from pathlib import Path

from serving.live.events import RecordedEvent
from serving.live.sqlite_store import SqliteStore

LONGEST = 0.15  # seconds that a process may record before it is killed
AT_ONCE = 3  # events of one call
BEGIN = 1_700_000_000_000_000


def record(path: Path, item: str, first: int, acknowledged: int) -> None:
    """Records events for ever, and tells a pipe the number of the last of each call that returned."""
    store, number = SqliteStore(path), first
    while True:
        numbers = range(number, number + AT_ONCE)
        store.append([RecordedEvent(f"e{one}", f"user {one}", item, "purchase", BEGIN + one) for one in numbers])
        number += AT_ONCE
        os.write(acknowledged, f"{number - 1}\n".encode())


def killed_after(path: Path, item: str, first: int, seconds: float) -> int:
    """The number of the last event that a process which was killed had acknowledged; -1: none."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        record(path, item, first, writing)
    os.close(writing)
    time.sleep(seconds)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    with os.fdopen(reading) as pipe:
        lines = [line for line in pipe.read().splitlines(keepends=True) if line.endswith("\n")]
    return int(lines[-1]) if lines else -1


def main() -> None:
    path, item, kills = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
    rng, last = random.Random(7), -1
    for _ in range(kills):  # what was not acknowledged is sent again
        last = max(last, killed_after(path, item, last + 1, rng.uniform(0, LONGEST)))
    stored = Counter(one.event.event_id for one in SqliteStore(path).since(0, 10_000_000))
    lost = [number for number in range(last + 1) if f"e{number}" not in stored]
    print(json.dumps({"acknowledged": last + 1, "stored": sum(stored.values()), "kinds": len(stored), "lost": lost}))


if __name__ == "__main__":
    main()
