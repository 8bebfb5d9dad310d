"""The costs of a peer: seconds to build, memory, and latency on the requests that all peers and the bundle answer.

Memory is what answering needs, in 10^6 bytes: vectors, factors, tables and the weights of every model that reads a
request. For a bundle it is the size of the files that answer, including the items' texts, which are not counted for
peers.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias

import numpy as np

from benchmarks.result_lines import Line, percentiles

Answers: TypeAlias = Callable[[Sequence[int]], object]  # some of the requests, by position


def latencies(answer: Answers, n: int) -> list[float]:
    """Milliseconds of each of n requests, one after another; the first is answered once before as a warm-up."""
    answer([0])
    spent = []
    for at in range(n):
        begun = time.perf_counter()
        answer([at])
        spent.append(1_000 * (time.perf_counter() - begun))
    return spent


def batch_rate(answer: Answers, n: int) -> float:
    """Requests a second where all n are answered in one call."""
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
    """A line of costs. spent: milliseconds of each request, if any was timed. built: seconds to train the chosen
    setting, and those of the whole grid. batched: requests a second in one call, where the peer can do that."""
    build, choose = built or (None, None)
    summary: dict[str, float | None] = {"build s": build, "choose s": choose, "MB": megabytes}
    if len(spent):
        summary |= {f"{name} ms": value for name, value in percentiles(spent).items() if name != "n"}
        summary["per second"] = 1_000 / float(np.mean(spent))
    if batched is not None:
        summary["per second at once"] = batched
    return Line(measured="peer", labels=labels, unit="figure", summary=summary)
