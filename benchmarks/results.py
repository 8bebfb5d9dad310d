"""Results: lines of JSON under one schema, each of which says by itself what was measured, where, and how to repeat it.

Files only grow: a run is appended, and an earlier one is never changed.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal, TypeAlias

import numpy as np

from benchmarks.environment import Probe, command_line, machine, probe
from benchmarks.histogram import Histogram
from retrieval.errors import BadConfig, BadData

SCHEMA = 1
SAMPLES = 500  # kept of a line at most, the first of all: enough to tell 5 % from noise
BEYOND = 10  # samples that must lie beyond a percentile before it is a figure
PERCENTILES = {"p50": 50.0, "p90": 90.0, "p99": 99.0, "p99.9": 99.9}

Unit: TypeAlias = Literal["ms", "s", "MB", "per second", "share", "figure"]
LESS_IS_BETTER = frozenset({"ms", "s", "MB"})
Summary: TypeAlias = Mapping[str, float | None]


@dataclass(frozen=True, kw_only=True)
class Run:
    """What all lines of one command share.

    `command` repeats it; `commit` is of this code, `data` names release, data set and settings; `date` is UTC.
    """

    command: str
    date: str
    commit: str
    machine: Mapping[str, str]
    probe: Probe
    data: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Line:
    """One thing measured.

    measured: the kind of figure, such as `latency`. labels: which of them, such as call, stage and load. unit: of the
    samples and of the summary's values, but for counts (`n`). samples: the first of them in the order taken, of two
    runs with one seed about the same requests. summary: percentiles, means, intervals, by name.
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
    kept = [round(float(value), 4) for value in samples[:SAMPLES]]
    counts = Histogram.of(samples).as_json() if unit == "ms" else {}
    return Line(
        measured=measured, labels=labels, unit=unit, summary=percentiles(samples), samples=kept, histogram=counts
    )


def percentiles(samples: Sequence[float]) -> dict[str, float]:
    """`n`, mean, and the percentiles that have at least ten samples beyond them; the median of any number.

    >>> list(percentiles(range(200))), percentiles([3.0, 1.0, 2.0])["p50"]
    (['n', 'mean', 'p50', 'p90'], 2.0)
    """
    values = np.asarray(samples, np.float64)
    found = {"n": float(len(values)), "mean": float(values.mean())}
    for name, percent in PERCENTILES.items():
        if percent == 50 or round(len(values) * (100 - percent) / 100, 6) >= BEYOND:
            found[name] = float(np.percentile(values, percent))
    return found


def append(path: Path, run: Run, lines: Iterable[Line]) -> None:
    """Adds the lines of a run to a file, made if there is none, in one write. Raises BadConfig where it cannot be."""
    written = "".join(json.dumps(as_json(run, line), ensure_ascii=False) + "\n" for line in lines)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        torn = not _ends_whole(path)
        with path.open("a", encoding="utf-8") as file:
            file.write(("\n" if torn else "") + written)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise BadConfig(f"--out {path}: cannot be written ({error.strerror}); name another file") from error


def read(path: Path) -> list[Recorded]:
    """The lines of a file. Raises BadData for one that is not there, torn, or of another schema."""
    try:
        texts = path.read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise BadData(
            f"{path}: cannot be read as results ({error}); make some with: shortlist bench ... --out {path}"
        ) from error
    found = [_parsed(path, number, text) for number, text in enumerate(texts, 1) if text.strip()]
    if not found:
        raise BadData(f"{path}: holds no results; make some with: shortlist bench ... --out {path}")
    return found


def latest(recorded: Sequence[Recorded]) -> list[Recorded]:
    """Of several runs of the same thing the newest line, in the order of their first mention."""
    newest: dict[object, Recorded] = {}
    for one in recorded:
        key = (*one.line.key, tuple(sorted(one.run.data.items())))
        if key not in newest or newest[key].run.date <= one.run.date:
            newest[key] = one
    return list(newest.values())


def _ends_whole(path: Path) -> bool:
    """Whether a file ends with its last line; one that was cut off by a full disk does not."""
    if not path.exists() or not path.stat().st_size:
        return True
    with path.open("rb") as file:
        file.seek(-1, os.SEEK_END)
        return file.read() == b"\n"


def as_json(run: Run, line: Line) -> dict[str, object]:
    """A line of a file, as JSON takes it."""
    about = asdict(run) | {"probe": run.probe._asdict()}
    return {"schema": SCHEMA, **asdict(line), "run": about}


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
