"""A run from Python, as `shortlist run` does it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from retrieval.settings import Budget
from serving.jobs.run import Pipeline, RunResult
from serving.settings import RunSettings


def run(
    bundle: str | Path,
    data: str | Path,
    settings: RunSettings | None = None,
    *,
    budget: Budget = "default",
    device: str = "auto",
    progress: Callable[[str], None] | None = None,
) -> RunResult:
    """Train everything on a data set and publish a release.

    Checks the data, trains the towers, builds the index, fits the fusion of sources, trains the ranker, decides by the
    gate whether it reranks, evaluates, and makes the release live. A run that was interrupted goes on where it stopped.

    bundle: the folder to write to; created if it does not exist. data: the folder with items.parquet. settings: from
    `RunSettings(...)` or `read_settings(...)`; the defaults if none are given. budget: how long to train, "quick",
    "default" or "long". device: "auto", "cpu" or "cuda". progress: called with each line of progress.

    Raises BadData for a data set that cannot be used, BadConfig for settings that do not go together, BadBundle for a
    folder that cannot be written or that another process is writing, and MissingDependency without the extra `train`.
    """
    pipeline = Pipeline(Path(data), Path(bundle), settings or RunSettings(), budget, device, say=progress or _silent)
    return pipeline.run()


def _silent(line: str) -> None:
    """Shows nothing."""
