"""Sweeps: one setting of an engine or of its calls after another, `--sweep k=10,50,100`."""

from __future__ import annotations

import json
import math
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, NamedTuple

from benchmarks.result_lines import Line, read
from retrieval.encoders.runtime import RUNTIMES, RuntimeName
from retrieval.errors import BadConfig
from serving.request import Filters

if TYPE_CHECKING:
    from serving.engine import Engine

CONDITION = re.compile(r"(?P<column>[^=<>!]+?)\s*(?P<operator><=|>=|!=|<|>|=)\s*(?P<value>.+)")


@dataclass(frozen=True, kw_only=True)
class Knobs:
    """What a sweep can turn. None is what the release or the engine itself does."""

    k: int = 10
    rerank: bool = True
    shortlist: int | None = None  # items that are retrieved, at least
    depth: int | None = None  # places that are reranked
    precision: str = "auto"
    runtime: RuntimeName = "openvino"
    threads: int | None = None  # cores that the process may use
    filters: Filters | None = None  # of every call
    deadline: float | None = None  # milliseconds, of calls that rerank


class Sweep(NamedTuple):
    """A setting and its values, as they were written."""

    name: str
    values: tuple[str, ...]

    def knobs(self) -> list[Knobs]:
        """The settings of every point. Raises BadConfig for a value that cannot be."""
        return [turned({self.name: value}) for value in self.values]


def parse_sweep(text: str) -> Sweep:
    """A sweep as the option has it. Raises BadConfig, naming what there is.

    >>> parse_sweep("k=10,50")
    Sweep(name='k', values=('10', '50'))
    """
    name, equals, values = text.partition("=")
    if not equals or not values or name not in READ:
        raise BadConfig(f"--sweep {text}: write it as NAME=VALUE,VALUE, with a NAME of {', '.join(READ)}")
    sweep = Sweep(name, tuple(value.strip() for value in values.split(",")))
    sweep.knobs()
    return sweep


def turned(values: Mapping[str, str]) -> Knobs:
    """Knobs from their values as text. Raises BadConfig for a value that cannot be.

    >>> knobs = turned({"k": "50", "rerank": "no"})
    >>> knobs.k, knobs.rerank, knobs.depth
    (50, False, None)
    """
    read: dict[str, object] = {}
    for name, value in values.items():
        try:
            read[name] = READ[name](value)
        except ValueError as error:
            raise BadConfig(f"--sweep {name}={value}: {error}") from error
    return replace(Knobs(), **read)  # type: ignore[arg-type]


def open_engine(bundle: Path, knobs: Knobs, device: str) -> Engine:
    """The engine of a bundle's live release, as it is now, under some knobs. Raises what `Engine.open` does."""
    from serving.engine import Engine

    opened = Engine.open(
        bundle, device=device, precision=knobs.precision, runtime=knobs.runtime, auto_reload=False
    ).state
    stages = opened.stages
    if knobs.depth is not None:
        stages = stages.at_depth(knobs.depth)
    if knobs.shortlist is not None:
        stages = replace(stages, shortlist=knobs.shortlist)
    return Engine(replace(opened, stages=stages))


@contextmanager
def pinned(threads: int | None) -> Iterator[None]:
    """Lets this process use so many cores, as far as it has them; runtimes that start inside see no others.

    What has started before keeps its threads: a process is to be pinned before it opens a model.
    """
    if threads is None or not hasattr(os, "sched_setaffinity"):
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, sorted(before)[:threads])
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def in_a_process(arguments: Sequence[str], threads: int) -> list[Line]:
    """The lines of another `shortlist bench` command on so many cores: a runtime counts them once, when it starts.

    Raises BadConfig with the command's own words where it fails.
    """
    with TemporaryDirectory() as scratch:
        out = Path(scratch) / "lines.jsonl"
        command = [sys.executable, "-m", "benchmarks", *arguments, "--threads", str(threads), "--out", str(out)]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            said = done.stderr.strip().splitlines() or ["it said nothing"]
            raise BadConfig(f"{' '.join(arguments[:2])} on {threads} cores: {said[-1]}")
        return [one.line for one in read(out)]


def whole_numbers(option: str, text: str) -> tuple[int, ...]:
    """Whole numbers with commas between them. Raises BadConfig, naming the option.

    >>> whole_numbers("--candidates", "10,100")
    (10, 100)
    """
    try:
        return tuple(_whole(part) for part in text.split(","))
    except ValueError as error:
        raise BadConfig(f"{option} {text}: {error}, with commas between them") from error


def _whole(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise ValueError("give a whole number of 1 or more")
    return int(text)


def _milliseconds(text: str) -> float | None:
    """
    >>> _milliseconds("25"), _milliseconds("none")
    (25.0, None)
    """
    if text == "none":
        return None
    try:
        found = float(text)
    except ValueError:
        found = 0.0
    if not 0 < found < math.inf:
        raise ValueError("give milliseconds above 0, or none")
    return found


def _yes(text: str) -> bool:
    if text not in ("yes", "no"):
        raise ValueError("give yes or no")
    return text == "yes"


def _precision(text: str) -> str:
    from ranking.models.placement import placed

    placed("cpu", text)
    return text


def _runtime(text: str) -> str:
    if text not in RUNTIMES:
        raise ValueError(f"give {' or '.join(RUNTIMES)}")
    return text


def _filters(text: str) -> Filters | None:
    """
    >>> _filters("price<20"), _filters("brand=Acme Ltd"), _filters("none")
    ([('price', '<', 20)], [('brand', '=', 'Acme Ltd')], None)
    """
    if text == "none":
        return None
    found = CONDITION.fullmatch(text)
    if found is None:
        raise ValueError("write none or COLUMN=VALUE, or one of != < <= > >= in place of =")
    try:
        value = json.loads(found["value"])
    except ValueError:
        value = found["value"]
    return [(found["column"], found["operator"], value)]


READ: Mapping[str, Callable[[str], object]] = {
    "k": _whole, "shortlist": _whole, "rerank": _yes, "depth": _whole, "precision": _precision, "runtime": _runtime,
    "threads": _whole, "filters": _filters, "deadline": _milliseconds,
}  # fmt: skip
NOT_RERANKED: Mapping[str, str] = {  # what settings do to calls that are not reranked
    "rerank": "changes nothing", "depth": "changes nothing", "deadline": "changes nothing",
    "precision": "is of the encoder alone", "runtime": "is of the encoder alone",
}  # fmt: skip
