"""Callers who ask all the time; what they get goes to files at once, so that it takes no memory of the process."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from benchmarks.latency.churn_checks import Seen
from benchmarks.latency.load import Call
from serving.internals import Answer


class Asked(NamedTuple):
    """What one caller got: the answers in their order, and what was raised."""

    answers: list[Seen]
    errors: list[str]


@contextmanager
def asking(calls: Sequence[tuple[str, Call]], folder: Path, callers: int) -> Iterator[None]:
    """So many threads make the calls, each named by its kind, over and over until the end of the context; `read_asked`
    reads what each wrote to the folder, which is made."""
    folder.mkdir()
    over = threading.Event()
    threads = [
        threading.Thread(target=_ask, args=(calls, at * len(calls) // callers, folder / f"{at}.jsonl", over))
        for at in range(callers)
    ]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        over.set()
        for thread in threads:
            thread.join()


def read_asked(folder: Path) -> list[Asked]:
    """What each caller got."""
    return [_read(path) for path in sorted(folder.iterdir())]


def seen(kind: str, begun: float, ended: float, answer: Answer) -> Seen:
    """What is compared of an answer."""
    shown = [(hit.item_id, hit.title) for hit in answer.items]
    beside = [item for hit in answer.items for item in hit.variants]
    return Seen(kind, begun, ended, answer.release, answer.index_revision, answer.rules, shown, beside)


def _ask(calls: Sequence[tuple[str, Call]], at: int, path: Path, over: threading.Event) -> None:
    with path.open("w", encoding="utf-8") as file:
        while not over.is_set():
            kind, call = calls[at % len(calls)]
            at, begun = at + 1, time.monotonic()
            try:
                answer = call()
            except Exception as error:  # whatever it is, it is told at the end
                file.write(json.dumps(f"{kind}: {type(error).__name__}: {error}") + "\n")
            else:
                file.write(json.dumps(seen(kind, begun, time.monotonic(), answer)) + "\n")


def _read(path: Path) -> Asked:
    asked = Asked([], [])
    with path.open(encoding="utf-8") as file:
        for line in file:
            found = json.loads(line)
            if isinstance(found, str):
                asked.errors.append(found)
            else:
                asked.answers.append(Seen(*found))
    return asked
