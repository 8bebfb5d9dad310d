"""`shortlist bench index` and `tuned`: vector indexes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from benchmarks.cli.group import Quick, Results, Seed, Threads, bench
from serving.cli.options import AsJson, Bundle, Device


@bench.command()
def index(
    bundle: Bundle,
    seconds: Annotated[float | None, typer.Option(min=0.0, help="Of each setting; 2 where not given.")] = None,
    kind: Annotated[
        list[str] | None,
        typer.Option(metavar="FACTORY", help="A kind in FAISS's words; all by default."),
    ] = None,
    sizes: Annotated[
        str | None,
        typer.Option(metavar="N,N", help="Growth: so many items, made ones beyond the bundle's; up to 1,000,000."),
    ] = None,
    growth: Annotated[bool, typer.Option("--growth/--no-growth", help="Other sizes beside the bundle's own.")] = True,
    threads: Threads = None,
    seed: Seed = 0,
    quick: Quick = False,
    device: Device = "auto",
    out: Results = None,
    as_json: AsJson = False,
) -> None:
    """Recall against queries a second of every kind of index over the bundle's own vectors, for its own shoppers."""
    from benchmarks.result_lines import begin_run
    from benchmarks.sweep import parse_whole_numbers, use_cores
    from benchmarks.terminal import record, run_context
    from benchmarks.vector_index.run import GROWTH, curves_of

    with use_cores(threads):
        curves = curves_of(bundle, device=device, seed=seed, seconds=seconds or (0.1 if quick else 2.0), few=quick)
        grown = parse_whole_numbers("--sizes", sizes or ("1000,3000" if quick else GROWTH)) if growth else ()
        n, dim = curves.items.shape
        run = begin_run(
            run_context(
                bundle=bundle, items=n, dimensions=dim, queries=len(curves.queries), threads=threads, quick=quick
            ),
            device=device,
        )
        record(run, curves.lines(kind, grown), out=out, as_json=as_json)


@bench.command()
def tuned(
    vectors: Annotated[
        Path | None, typer.Option(help="Items' vectors, float32 [n, dim], as numpy.save wrote them.")
    ] = None,
    queries: Annotated[Path | None, typer.Option(help="Vectors to ask with, in a file as those.")] = None,
    items: Annotated[int, typer.Option(min=1_000, help="Vectors to make, where no file is given.")] = 300_000,
    dim: Annotated[int, typer.Option(min=8, help="Their dimensions.")] = 384,
    recall: Annotated[float, typer.Option(min=0.0, max=1.0, help="Recall@100 that the index is to reach.")] = 0.95,
    memory: Annotated[str | None, typer.Option(help="What the index may take, as 4GiB.")] = None,
    seconds: Annotated[float | None, typer.Option(min=0.0, help="Of each comparison; 5 where not given.")] = None,
    threads: Threads = None,
    seed: Seed = 0,
    quick: Quick = False,
    out: Results = None,
    as_json: AsJson = False,
) -> None:
    """The index that a large catalogue gets, beside exact search: recall, time, memory, alone and under filters."""
    from benchmarks.result_lines import begin_run
    from benchmarks.sweep import use_cores
    from benchmarks.terminal import record, run_context
    from benchmarks.vector_index.run import made, saved
    from benchmarks.vector_index.tuned import TunedRun
    from retrieval.errors import BadConfig
    from serving.cli.options import settings_of

    if (vectors is None) != (queries is None):
        raise BadConfig("--vectors and --queries belong together; give both, or neither to have vectors made")
    allowed = settings_of(options={"memory": memory}).index.memory
    with use_cores(threads):
        if vectors is not None and queries is not None:
            given = saved(vectors, queries)
        else:
            given = made(min(items, 30_000) if quick else items, dim, seed)
        n, width = given.items.shape
        spent = seconds if seconds is not None else 0.5 if quick else 5.0
        measured = TunedRun(
            items=given.items, queries=given.queries, target=recall, memory=allowed, seconds=spent, seed=seed
        )
        about = {"vectors": given.about, "items": n, "dimensions": width, "recall": recall, "memory": memory}
        run = begin_run(run_context(about, threads=threads, quick=quick))
        record(run, measured.lines(), out=out, as_json=as_json)
