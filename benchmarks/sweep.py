"""Sweeps: one setting of an engine or of its calls takes several values in turn, as in `--sweep k=10,50,100`."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, NamedTuple

from benchmarks.result_lines import Line, read
from indexing.version.filters import lists_of
from retrieval.encoders.runtime import RUNTIMES, RuntimeName
from retrieval.errors import BadConfig, BadRequest
from serving.internals import Filters

if TYPE_CHECKING:
    from serving.internals import Engine


@dataclass(frozen=True, kw_only=True)
class EngineOptions:
    """The settings that a sweep can vary. None leaves a setting as the release or the engine has it."""

    k: int = 10
    rerank: bool = True
    shortlist: int | None = None  # candidates that are retrieved, at least
    depth: int | None = None  # candidates that are reranked
    precision: str = "auto"
    runtime: RuntimeName = "openvino"
    threads: int | None = None  # cores that the process may use
    filters: Filters | None = None  # of every call
    deadline_ms: float | None = None  # of calls that rerank


class Sweep(NamedTuple):
    """A setting and its values as text."""

    name: str
    values: tuple[str, ...]

    def options(self) -> list[EngineOptions]:
        """The options for each value. Raises BadConfig for an invalid value."""
        return [parse_options({self.name: value}) for value in self.values]


def parse_sweep(text: str) -> Sweep:
    """Parses the text of `--sweep`. Raises BadConfig for an unknown setting, naming those that there are.

    >>> parse_sweep("k=10,50")
    Sweep(name='k', values=('10', '50'))
    """
    name, equals, values = text.partition("=")
    if not equals or not values or name not in PARSERS:
        raise BadConfig(f"--sweep {text}: write it as NAME=VALUE,VALUE, with a NAME of {', '.join(PARSERS)}")
    sweep = Sweep(name, tuple(value.strip() for value in values.split(",")))
    sweep.options()
    return sweep


def parse_options(values: Mapping[str, str]) -> EngineOptions:
    """Options from their values as text. Raises BadConfig for an invalid value.

    >>> options = parse_options({"k": "50", "rerank": "no"})
    >>> options.k, options.rerank, options.depth
    (50, False, None)
    """
    read: dict[str, object] = {}
    for name, value in values.items():
        try:
            read[name] = PARSERS[name](value)
        except ValueError as error:
            raise BadConfig(f"--sweep {name}={value}: {error}") from error
    return replace(EngineOptions(), **read)  # type: ignore[arg-type]


def open_engine(bundle: Path, options: EngineOptions, device: str) -> Engine:
    """An engine of a bundle's live release under some options; it does not reload. Raises what `Engine.open` does."""
    from serving.internals import Engine

    state = Engine.open(
        bundle, device=device, precision=options.precision, runtime=options.runtime, auto_reload=False
    ).state
    if options.depth is not None:
        state = state.at_depth(options.depth)
    if options.shortlist is not None:
        state = replace(state, shortlist=options.shortlist)
    return Engine(state)


@contextmanager
def use_cores(threads: int | None) -> Iterator[None]:
    """Limits this process to so many cores, or as many as it has; runtimes that start inside see no others.

    Runtimes that have started before keep their threads: limit the process before it opens a model.
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


def run_in_process(arguments: Sequence[str], threads: int) -> list[Line]:
    """The result lines of a `shortlist bench` command in a process of its own on so many cores, since a runtime counts
    the cores only once, when it starts.

    Raises BadConfig with the last line of the command's stderr where it fails.
    """
    with TemporaryDirectory() as scratch:
        out = Path(scratch) / "lines.jsonl"
        command = [sys.executable, "-m", "benchmarks", *arguments, "--threads", str(threads), "--out", str(out)]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            errors = done.stderr.strip().splitlines() or [f"exit code {done.returncode} without a message"]
            raise BadConfig(f"{' '.join(arguments[:2])} on {threads} cores: {errors[-1]}")
        return [one.line for one in read(out)]


def parse_whole_numbers(option: str, text: str) -> tuple[int, ...]:
    """Parses whole numbers separated by commas. Raises BadConfig, naming the option.

    >>> parse_whole_numbers("--candidates", "10,100")
    (10, 100)
    """
    try:
        return tuple(_whole(part) for part in text.split(","))
    except ValueError as error:
        raise BadConfig(f"{option} {text}: {error}; separate several with commas") from error


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
    from ranking.models.placement import resolve_placement

    resolve_placement("cpu", text)
    return text


def _runtime(text: str) -> str:
    if text not in RUNTIMES:
        raise ValueError(f"give {' or '.join(RUNTIMES)}")
    return text


def _filters(text: str) -> Filters | None:
    """
    >>> _filters("price < 20"), _filters('brand = "Acme Ltd"'), _filters("none")
    ([[('price', '<', 20)]], [[('brand', '=', 'Acme Ltd')]], None)
    """
    try:
        return None if text == "none" else lists_of(text)
    except BadRequest as error:
        raise ValueError(str(error)) from error


PARSERS: Mapping[str, Callable[[str], object]] = {
    "k": _whole, "shortlist": _whole, "rerank": _yes, "depth": _whole, "precision": _precision, "runtime": _runtime,
    "threads": _whole, "filters": _filters, "deadline_ms": _milliseconds,
}  # fmt: skip
EFFECT_WITHOUT_RERANKING: Mapping[str, str] = {  # of settings on calls that are not reranked
    "rerank": "has no effect", "depth": "has no effect", "deadline_ms": "has no effect",
    "precision": "affects the encoder alone", "runtime": "affects the encoder alone",
}  # fmt: skip
