"""Results: lines of JSON under one schema. Each line alone says what was measured, on which machine, and how to repeat
it.

A run is appended to its file; earlier runs are never changed.
"""

from __future__ import annotations

import json
import os
import shlex
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal, TypeAlias

import numpy as np

from benchmarks.environment import Probe, command_line, machine, probe
from benchmarks.histogram import bucket_counts
from retrieval.errors import BadConfig, BadData

SCHEMA = 1
MAX_TIMES = 2_000  # durations that a line keeps: the first, whose requests are the same in two runs with one seed
MAX_USERS = 25_000  # users whose quality a line keeps, all of a usual data set; they take some 50 kB
SAMPLES_BEYOND = 10  # samples that must lie beyond a percentile for it to be reported
PERCENTILES = {"p50": 50.0, "p90": 90.0, "p99": 99.0, "p99.9": 99.9}

Unit: TypeAlias = Literal["ms", "s", "MB", "per second", "share", "figure"]
LESS_IS_BETTER = frozenset({"ms", "s", "MB"})
ENDED = "probe at the end"  # kind of the last line of a run; readers get it as `Run.ended`
BUILD_FACTS = frozenset({"release", "data fingerprint", "task", "candidates"})  # facts of a build, no choices of a run
LABELLED = frozenset({"kept"})  # choices that each line has among its own labels
SIZES = frozenset({"items", "dimensions", "queries"})  # facts of a bundle, but choices where vectors are generated
Summary: TypeAlias = Mapping[str, float | None]


@dataclass(frozen=True, kw_only=True)
class Run:
    """What all lines of one command share.

    command: what to type to repeat it. date: UTC. commit: of this code. data: release, data set and settings by name.
    probe: the machine's speed at the start; ended: at the end, None where the run did not finish.
    """

    command: str
    date: str
    commit: str
    machine: Mapping[str, str]
    probe: Probe
    data: Mapping[str, str] = field(default_factory=dict)
    ended: Probe | None = None

    @property
    def quick(self) -> bool:
        """Whether it was run with `--quick`; older runs have that in their command alone."""
        return "quick" in self.data or "--quick" in shlex.split(self.command)

    @property
    def setting(self) -> tuple[tuple[str, str], ...]:
        """The settings of the run, by name: `data` without facts of the build, such as the release or lengths of texts,
        plus the GPU where models ran on one.

        >>> about = {"bundle": "shop", "release": "r1", "tokens of 10 pairs": "mean 18", "threads": "1"}
        >>> Run(command="", date="", commit="", machine={}, probe=Probe(1, 1), data=about).setting
        (('bundle', 'shop'), ('threads', '1'))
        """
        left_out = BUILD_FACTS | LABELLED | {"quick"} | (SIZES if "bundle" in self.data else set())
        gpu = {"gpu": self.machine["gpu"]} if self.machine.get("gpu") else {}
        return tuple(
            (name, value)
            for name, value in sorted({**self.data, **gpu}.items())
            if name not in left_out and not name.startswith("tokens ")
        )


@dataclass(frozen=True, kw_only=True)
class Line:
    """One measurement.

    measured: its kind, such as `latency`. labels: which one of that kind, such as call, stage and load. unit: of the
    samples and of the summary's values, except counts (`n`). samples: single values in the order of the requests, the
    first MAX_TIMES durations, or each user's mean quality up to MAX_USERS; two runs with one seed make the same
    requests. summary: percentiles, means and intervals by name. histogram: see `bucket_counts`.
    """

    measured: str
    labels: Mapping[str, str]
    unit: Unit
    summary: Summary
    samples: Sequence[float] = ()
    histogram: Mapping[str, int] = field(default_factory=dict)

    @property
    def key(self) -> tuple[str, tuple[tuple[str, str], ...], str]:
        """Lines of two runs with the same key measured the same thing."""
        return self.measured, tuple(sorted(self.labels.items())), self.unit

    @property
    def median(self) -> float | None:
        """The median of the samples: called p50 where there are enough of them for a percentile, else median."""
        return self.summary.get("p50", self.summary.get("median"))

    @property
    def costs(self) -> Mapping[str, float | None]:
        """The summary of a peer's costs, with its median latency always as `median ms`; see `median`."""
        return {**self.summary, "median ms": self.summary.get("p50 ms", self.summary.get("median ms"))}


@dataclass(frozen=True)
class Recorded:
    """A line of a file and its run."""

    run: Run
    line: Line


def begin_run(
    data: Mapping[str, str],
    *,
    device: str = "cpu",
    measure: Callable[[], Probe] = probe,
    now: datetime | None = None,
) -> Run:
    """A run that begins now on this machine, whose speed is probed; with the GPU where `device` is one."""
    about = machine(device)
    return Run(
        command=command_line(sys.argv),
        date=(now or datetime.now(UTC)).isoformat(timespec="seconds"),
        commit=about.pop("commit"),
        machine=about,
        probe=measure(),
        data=dict(data),
    )


def sampled(measured: str, labels: Mapping[str, str], unit: Unit, samples: Sequence[float]) -> Line:
    """A line of single values: their percentiles, as far as there are enough of them, and the first values. Raises
    ValueError where there are none."""
    if not len(samples):
        raise ValueError(f"{measured} {dict(labels)}: there are no samples")
    first = [round(float(value), 4) for value in samples[:MAX_TIMES]]
    counts = bucket_counts(samples) if unit == "ms" else {}
    return Line(
        measured=measured, labels=labels, unit=unit, summary=percentiles(samples), samples=first, histogram=counts
    )


def percentiles(samples: Sequence[float]) -> dict[str, float]:
    """`n`, mean, and the percentiles with at least ten samples beyond them; `median` where p50 has fewer.

    >>> list(percentiles(range(200))), percentiles([3.0, 1.0, 2.0])
    (['n', 'mean', 'p50', 'p90'], {'n': 3.0, 'mean': 2.0, 'median': 2.0})
    """
    values = np.asarray(samples, np.float64)
    found = {"n": float(len(values)), "mean": float(values.mean())}
    for name, percent in PERCENTILES.items():
        if round(len(values) * (100 - percent) / 100, 6) >= SAMPLES_BEYOND:
            found[name] = float(np.percentile(values, percent))
    return found if "p50" in found else {**found, "median": float(np.median(values))}


def append(path: Path, run: Run, lines: Iterable[Line]) -> None:
    """Appends the lines of a run to a file, which is created if missing, in one write. Raises BadConfig where that
    fails."""
    written = "".join(_text(run, line) for line in lines)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        torn = not _ends_whole(path)
        with path.open("a", encoding="utf-8") as file:
            file.write(("\n" if torn else "") + written)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise BadConfig(f"--out {path}: cannot be written ({error.strerror}); give another file") from error


def append_end(path: Path, run: Run, probe: Probe) -> None:
    """Appends the machine's speed at the end of a run, which `read` adds to all lines of that run."""
    append(path, run, [Line(measured=ENDED, labels={}, unit="figure", summary=probe._asdict())])


def read(path: Path) -> list[Recorded]:
    """The lines of a file, each with its run.

    Raises BadData for a file that is missing, broken or of another schema.
    """
    try:
        texts = path.read_text("utf-8").rstrip("\n").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise BadData(
            f"{path}: cannot be read as results ({error}); measure with: shortlist bench ... --out {path}"
        ) from error
    found = _with_ends([_parsed(path, number, text) for number, text in enumerate(texts, 1) if text.strip()])
    if not found:
        raise BadData(f"{path}: holds no results; measure with: shortlist bench ... --out {path}")
    return found


def latest(recorded: Sequence[Recorded]) -> list[Recorded]:
    """The newest line of every key and setting, in the order in which each first appears.

    Two releases of one bundle share their keys and settings. Quick runs count only where no full run measured the same
    kind on the same data set and bundle.
    """
    full = {_subject(one) for one in recorded if not one.run.quick}
    newest: dict[object, Recorded] = {}
    for one in recorded:
        if one.run.quick and _subject(one) in full:
            continue
        key = (one.line.key, one.run.setting)
        if key not in newest or newest[key].run.date <= one.run.date:
            newest[key] = one
    return list(newest.values())


def _subject(one: Recorded) -> tuple[str, str | None, str | None]:
    return one.line.measured, one.run.data.get("data"), one.run.data.get("bundle")


def _with_ends(found: Sequence[Recorded]) -> list[Recorded]:
    """The lines without those of `append_end`, whose probes become the `ended` of their runs."""
    ends = {
        (one.run.date, one.run.command): Probe(one.line.summary["gflops"] or 0.0, one.line.summary["gbytes"] or 0.0)
        for one in found
        if one.line.measured == ENDED
    }
    return [
        replace(one, run=replace(one.run, ended=ends.get((one.run.date, one.run.command))))
        for one in found
        if one.line.measured != ENDED
    ]


def _ends_whole(path: Path) -> bool:
    """Whether a file ends with a line break; one that a full disk cut off does not."""
    if not path.exists() or not path.stat().st_size:
        return True
    with path.open("rb") as file:
        file.seek(-1, os.SEEK_END)
        return file.read() == b"\n"


def line_as_json(run: Run, line: Line) -> dict[str, object]:
    """A line as it stands in a file."""
    about = asdict(run) | {"probe": run.probe._asdict(), "ended": run.ended and run.ended._asdict()}
    if run.ended is None:
        del about["ended"]
    return {"schema": SCHEMA, **asdict(line), "run": about}


def _text(run: Run, line: Line) -> str:
    """A line as text, without blanks and without decimals of whole samples."""
    samples = [int(value) if value == int(value) else value for value in line.samples]
    return (
        json.dumps(line_as_json(run, replace(line, samples=samples)), ensure_ascii=False, separators=(",", ":")) + "\n"
    )


def _parsed(path: Path, number: int, text: str) -> Recorded:
    try:
        value = json.loads(text)
        schema = value.pop("schema")
        if schema == SCHEMA:
            run = value.pop("run")
            return Recorded(Run(**run | {"probe": Probe(**run["probe"])}), Line(**value))
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise BadData(f"{path}, line {number}: is no result ({type(error).__name__}: {error}); remove it") from error
    raise BadData(f"{path}, line {number}: has schema {schema}, not {SCHEMA}; measure again, into a new file")
