"""`python -m benchmarks BUNDLE`: the latency of a bundle's live release."""

from __future__ import annotations

import json
from pathlib import Path
from statistics import median
from typing import Annotated

import numpy as np
import typer
from rich.console import Console
from rich.table import Table

from benchmarks.latency import Timing, cold_starts, machine, time_calls, workload
from retrieval.errors import ShortlistError
from serving.engine import Engine


def bench(
    bundle: Annotated[Path, typer.Argument(help="The bundle whose live release is measured.")],
    calls: Annotated[int, typer.Option(min=1, help="Calls of each kind.")] = 200,
    seed: Annotated[int, typer.Option(help="Which shoppers, items and queries are drawn.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")] = False,
) -> None:
    """Time recommend, search, similar and cart, one request at a time, and the first answer of a fresh process."""
    try:
        engine = Engine.open(bundle)
    except ShortlistError as error:
        Console(stderr=True).print(str(error), markup=False, highlight=False, soft_wrap=True)
        raise typer.Exit(error.exit_code) from error
    timings = {name: time_calls(some) for name, some in workload(engine, calls, np.random.default_rng(seed)).items()}
    cold = cold_starts(bundle, next(iter(engine.shoppers.user_ids.to_pylist()), ""))
    if as_json:
        found = {name: timing.as_json() for name, timing in timings.items()}
        print(json.dumps({"calls": found, "cold_seconds": cold, "machine": machine(), "release": engine.release.id}))
    else:
        _show(timings, cold, engine.release.id)


def _show(timings: dict[str, Timing], cold: list[float], release: str) -> None:
    table = Table("call", "n", "p50 ms", "p95 ms", "p99 ms", "median ms by stage", title=f"release {release}")
    for name, timing in timings.items():
        stages = ", ".join(f"{stage} {value:.1f}" for stage, value in timing.stages.items())
        table.add_row(name, str(timing.n), *(f"{value:.1f}" for value in (timing.p50, timing.p95, timing.p99)), stages)
    console = Console()
    console.print(table)
    console.print(f"first answer of a fresh process: median {median(cold):.2f} s of {len(cold)}")
    console.print("; ".join(f"{name} {value}" for name, value in machine().items()), highlight=False)


if __name__ == "__main__":
    typer.run(bench)
