"""A program whose children answer: opens an engine, starts children by any method, and compares their answers.

    python fork_answers.py BUNDLE RUNTIME METHOD WHEN FOLDER

METHOD is one of multiprocessing, or `os` for a bare fork; children end by `sys.exit`. WHEN they are started: after the
parent opened its engine, after it `answered`, or while its threads are `answering`. The forkserver opens an engine as
it starts. Children write to FOLDER. Prints a JSON object: how children ended, in how many of all requests none differs
from the parent, and how many the cross-encoder read.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import sys
import threading
import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any, cast

import numpy as np

from serving.answering.reloader import ReleaseReloader
from serving.engine import Engine
from serving.evaluation.batch_requests import EVERY_GATE

CHILDREN, REQUESTS = 4, 200
OPEN = "FORK_ANSWERS_OPEN"  # environment: what a process opens as soon as it imports this
COLOURS, THINGS = ("red", "blue", "green", "large", "small"), ("mug", "drill", "lamp", "chair", "oil mask")


@cache
def opened(bundle: str, runtime: str) -> Engine:
    """The engine of this process or of its parent, with every gate open."""
    engine = Engine.open(bundle, device="cpu", runtime=runtime)  # type: ignore[arg-type]
    reloader = cast(ReleaseReloader, engine._source)
    reloader._state = replace(reloader._state, reranks=EVERY_GATE)
    return engine


def answer(engine: Engine, number: int) -> dict[str, Any]:
    """What is answered to a request of any kind, but for the time that it took."""
    version = engine.state.version
    user, [item] = f"shopper-{number % 150:05}", version.ids_of(np.array([number % version.size]))
    query = f"{COLOURS[number % 5]} {THINGS[number // 5 % 5]} {number}"
    calls: Sequence[Callable[[], Any]] = (
        lambda: engine.recommend(user_id=user),
        lambda: engine.search(query),
        lambda: engine.search(query, user_id=user),
        lambda: engine.similar(item),
        lambda: engine.complete_cart([item], user_id=user),
    )
    found: dict[str, Any] = calls[number // 25 % 5]().to_dict()
    found.pop("timings_ms")
    return found


def child(bundle: str, runtime: str, out: str) -> None:
    """Answers all requests into a file."""
    engine = opened(bundle, runtime)
    Path(out).write_text(json.dumps([answer(engine, number) for number in range(REQUESTS)]), "utf-8")


def start(method: str, arguments: Sequence[Sequence[str]]) -> list[int | None]:
    """The exit codes of children, one for each list of arguments."""
    if method == "os":
        return [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in list(map(_fork, arguments))]
    context = multiprocessing.get_context(method)
    if method == "forkserver":
        context.set_forkserver_preload([Path(__file__).stem])
    processes = [context.Process(target=child, args=own) for own in arguments]  # type: ignore[attr-defined]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    return [process.exitcode for process in processes]


def _fork(arguments: Sequence[str]) -> int:
    if (pid := os.fork()) == 0:
        child(*arguments)
        sys.exit()
    return pid


def main(bundle: str, runtime: str, method: str, when: str, folder: str) -> None:
    """See the module."""
    os.environ[OPEN] = f"{bundle}:{runtime}"
    engine, ended = opened(bundle, runtime), threading.Event()

    def keep_answering(number: int) -> None:
        while not ended.is_set():
            answer(engine, number)

    before = [answer(engine, number) for number in range(REQUESTS)] if when != "opened" else None
    busy = [threading.Thread(target=keep_answering, args=[n]) for n in range(2 if when == "answering" else 0)]
    for thread in busy:
        thread.start()
    files = [f"{folder}/{number}.json" for number in range(CHILDREN)]
    codes = start(method, [(bundle, runtime, file) for file in files])
    ended.set()
    wanted = before or [answer(engine, number) for number in range(REQUESTS)]
    found = [json.loads(Path(file).read_text("utf-8")) for file in files]
    alike = [all(one == theirs[number] for theirs in found) for number, one in enumerate(wanted)]
    read_by = sum("cross-encoder" in one["reranked"] for one in wanted)
    print(json.dumps({"codes": codes, "alike": sum(alike), "reranked": read_by, "all": len(wanted)}))


if __name__ == "__main__":
    warnings.simplefilter("ignore")  # newer Pythons warn of a fork beside threads, which is what is tried here
    main(*sys.argv[1:])
elif OPEN in os.environ and multiprocessing.current_process().name == "MainProcess":
    opened(*os.environ[OPEN].split(":"))
