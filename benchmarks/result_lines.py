"""Results: lines of JSON under one schema, each of which says by itself what was measured, where, and how to repeat it.

Files only grow: a run is appended, and an earlier one is never changed.
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
TIMES = 2_000  # kept of a line at most, the first of all, which two runs of one seed asked for alike
SAMPLES = 25_000  # kept of a quality: all shoppers, of which most find nothing; a line of them takes some 50 kB
BEYOND = 10  # samples that must lie beyond a percentile before it is a figure
PERCENTILES = {"p50": 50.0, "p90": 90.0, "p99": 99.0, "p99.9": 99.9}

Unit: TypeAlias = Literal["ms", "s", "MB", "per second", "share", "figure"]
LESS_IS_BETTER = frozenset({"ms", "s", "MB"})
ENDED = "probe at the end"  # the kind of the line that a run ends with; readers find it in `Run.ended`
OF_A_BUILD = frozenset({"release", "data fingerprint", "task", "candidates"})
WAYS = frozenset({"kept"})  # which ways were compared, of which each line names its own
SIZES = frozenset({"items", "dimensions", "queries"})  # of a bundle's build, but chosen where vectors are made
Summary: TypeAlias = Mapping[str, float | None]


@dataclass(frozen=True, kw_only=True)
class Run:
    """What all lines of one command share.

    `command` repeats it; `commit` is of this code, `data` names release, data set and settings; `date` is UTC. `probe`
    was taken when it began, `ended` when it ended, None where it did not or did not say.
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
        """Whether little of everything was measured; earlier runs say so in their command alone."""
        return "quick" in self.data or "--quick" in shlex.split(self.command)

    @property
    def setting(self) -> tuple[tuple[str, str], ...]:
        """What was chosen, by name: `data` without what only says which build was met, as releases and texts' lengths,
        and a GPU where it ran on one.

        >>> about = {"bundle": "shop", "release": "r1", "tokens of 10 pairs": "mean 18", "threads": "1"}
        >>> Run(command="", date="", commit="", machine={}, probe=Probe(1, 1), data=about).setting
        (('bundle', 'shop'), ('threads', '1'))
        """
        left_out = OF_A_BUILD | WAYS | {"quick"} | (SIZES if "bundle" in self.data else set())
        gpu = {"gpu": self.machine["gpu"]} if self.machine.get("gpu") else {}
        return tuple(
            (name, value)
            for name, value in sorted({**self.data, **gpu}.items())
            if name not in left_out and not name.startswith("tokens ")
        )


@dataclass(frozen=True, kw_only=True)
class Line:
    """One thing measured.

    measured: the kind of figure, such as `latency`. labels: which of them, such as call, stage and load. unit: of the
    samples and of the summary's values, but for counts (`n`). samples: the first of them in the order taken, of two
    runs with one seed about the same requests; of a quality each shopper's mean, up to SAMPLES. summary: percentiles,
    means, intervals, by name.
    """

    measured: str
    labels: Mapping[str, str]
    unit: Unit
    summary: Summary
    samples: Sequence[float] = ()
    histogram: Mapping[str, int] = field(default_factory=dict)

    @property
    def key(self) -> tuple[str, tuple[tuple[str, str], ...], str]:
        """What the lines of two runs are paired by."""
        return self.measured, tuple(sorted(self.labels.items())), self.unit

    @property
    def median(self) -> float | None:
        """The middle of the samples, which is called p50 only where they are enough for a percentile."""
        return self.summary.get("p50", self.summary.get("median"))

    @property
    def costs(self) -> Mapping[str, float | None]:
        """What a peer costs, the median of its milliseconds under one name, see `median`."""
        return {**self.summary, "median ms": self.summary.get("p50 ms", self.summary.get("median ms"))}


@dataclass(frozen=True)
class Recorded:
    """A line of a file and the run it belongs to."""

    run: Run
    line: Line


def begin(
    data: Mapping[str, str],
    *,
    device: str = "cpu",
    measure: Callable[[], Probe] = probe,
    now: datetime | None = None,
) -> Run:
    """A run that begins now: the machine is named, with the GPU if the models run there, and probed."""
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
    """A line of single measurements: percentiles as far as they are figures, and the first samples; ValueError where
    there are none."""
    if not len(samples):
        raise ValueError(f"{measured} {dict(labels)}: there are no samples")
    kept = [round(float(value), 4) for value in samples[:TIMES]]
    counts = bucket_counts(samples) if unit == "ms" else {}
    return Line(
        measured=measured, labels=labels, unit=unit, summary=percentiles(samples), samples=kept, histogram=counts
    )


def percentiles(samples: Sequence[float]) -> dict[str, float]:
    """`n`, mean, and the percentiles that have at least ten samples beyond them; of fewer than that the `median`.

    >>> list(percentiles(range(200))), percentiles([3.0, 1.0, 2.0])
    (['n', 'mean', 'p50', 'p90'], {'n': 3.0, 'mean': 2.0, 'median': 2.0})
    """
    values = np.asarray(samples, np.float64)
    found = {"n": float(len(values)), "mean": float(values.mean())}
    for name, percent in PERCENTILES.items():
        if round(len(values) * (100 - percent) / 100, 6) >= BEYOND:
            found[name] = float(np.percentile(values, percent))
    return found if "p50" in found else {**found, "median": float(np.median(values))}


def append(path: Path, run: Run, lines: Iterable[Line]) -> None:
    """Adds the lines of a run to a file, made if there is none, in one write. Raises BadConfig where it cannot be."""
    written = "".join(_text(run, line) for line in lines)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        torn = not _ends_whole(path)
        with path.open("a", encoding="utf-8") as file:
            file.write(("\n" if torn else "") + written)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise BadConfig(f"--out {path}: cannot be written ({error.strerror}); name another file") from error


def append_end(path: Path, run: Run, probe: Probe) -> None:
    """Adds how fast the machine was when a run ended, which `read` gives to all its lines."""
    append(path, run, [Line(measured=ENDED, labels={}, unit="figure", summary=probe._asdict())])


def read(path: Path) -> list[Recorded]:
    """The lines of a file, each with its run as it ended.

    Raises BadData for a file that is not there, torn, or of another schema.
    """
    try:
        texts = path.read_text("utf-8").rstrip("\n").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise BadData(
            f"{path}: cannot be read as results ({error}); make some with: shortlist bench ... --out {path}"
        ) from error
    found = _with_ends([_parsed(path, number, text) for number, text in enumerate(texts, 1) if text.strip()])
    if not found:
        raise BadData(f"{path}: holds no results; make some with: shortlist bench ... --out {path}")
    return found


def latest(recorded: Sequence[Recorded]) -> list[Recorded]:
    """Of several runs of the same thing under one setting the newest line, in the order of their first mention.

    Which release was measured makes nothing another thing. Quick runs count only where no full one measured that kind
    of figure on those data or that bundle.
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
    """The lines of measurements, each run with the probe of its last line of `append_end`."""
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
    """Whether a file ends with its last line; one that was cut off by a full disk does not."""
    if not path.exists() or not path.stat().st_size:
        return True
    with path.open("rb") as file:
        file.seek(-1, os.SEEK_END)
        return file.read() == b"\n"


def as_json(run: Run, line: Line) -> dict[str, object]:
    """A line of a file, as JSON takes it."""
    about = asdict(run) | {"probe": run.probe._asdict(), "ended": run.ended and run.ended._asdict()}
    if run.ended is None:
        del about["ended"]
    return {"schema": SCHEMA, **asdict(line), "run": about}


def _text(run: Run, line: Line) -> str:
    """A line of a file without what only takes room: blanks, and decimals of whole samples."""
    samples = [int(value) if value == int(value) else value for value in line.samples]
    return json.dumps(as_json(run, replace(line, samples=samples)), ensure_ascii=False, separators=(",", ":")) + "\n"


def _parsed(path: Path, number: int, text: str) -> Recorded:
    try:
        value = json.loads(text)
        schema = value.pop("schema")
        if schema == SCHEMA:
            run = value.pop("run")
            return Recorded(Run(**run | {"probe": Probe(**run["probe"])}), Line(**value))
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise BadData(f"{path}, line {number}: is not a result ({type(error).__name__}: {error}); remove it") from error
    raise BadData(f"{path}, line {number}: has schema {schema}, this version reads {SCHEMA}; measure again")
