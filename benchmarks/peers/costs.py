"""What a peer costs: seconds to build, memory, and the time of the same requests for all, ours among them.

Memory is what is kept to answer, in 10^6 bytes: vectors, factors, tables and the weights of every model that reads a
request. Of a bundle it is the files of the parts that answer, the items' texts among them, which of peers count for
nothing.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias

import numpy as np

from benchmarks.result_lines import Line, percentiles

Answers: TypeAlias = Callable[[Sequence[int]], object]  # some of the requests, by position


def alone(answer: Answers, n: int) -> list[float]:
    """Milliseconds of each of n requests, one after another, after the first was answered once unmeasured."""
    answer([0])
    spent = []
    for at in range(n):
        begun = time.perf_counter()
        answer([at])
        spent.append(1_000 * (time.perf_counter() - begun))
    return spent


def at_once(answer: Answers, n: int) -> float:
    """Requests a second where all n are given in one call."""
    begun = time.perf_counter()
    answer(range(n))
    return n / (time.perf_counter() - begun)


def cost_line(
    labels: Mapping[str, str],
    spent: Sequence[float],
    *,
    built: tuple[float, float] | None,
    megabytes: float,
    batched: float | None = None,
) -> Line:
    """Seconds to build, memory, milliseconds `spent` on each request, requests a second one after another and, where
    they can be given in one call, `batched`; where nothing was timed, no times of answers. built: the seconds of what
    answers, and with all that it was chosen from."""
    build, choose = built or (None, None)
    summary: dict[str, float | None] = {"build s": build, "choose s": choose, "MB": megabytes}
    if len(spent):
        summary |= {f"{name} ms": value for name, value in percentiles(spent).items() if name != "n"}
        summary["per second"] = 1_000 / float(np.mean(spent))
    if batched is not None:
        summary["per second at once"] = batched
    return Line(measured="peer", labels=labels, unit="figure", summary=summary)
