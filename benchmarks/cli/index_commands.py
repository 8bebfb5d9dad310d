"""`shortlist bench index` and `tuning`: vector indexes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from benchmarks.cli.group import Quick, Results, Seed, Threads, bench
from serving.cli.options import AsJson, Bundle, Device


@bench.command()
def index(
    bundle: Bundle,
    seconds: Annotated[float | None, typer.Option(min=0.0, help="Time for each setting.  [default: 2]")] = None,
    kind: Annotated[
        list[str] | None,
        typer.Option(metavar="FACTORY", help="A FAISS factory string; may be repeated.  [default: all kinds]"),
    ] = None,
    sizes: Annotated[
        str | None,
        typer.Option(metavar="N,N", help="Sizes of the growing index, up to 1,000,000; missing items are generated."),
    ] = None,
    growth: Annotated[
        bool, typer.Option("--growth/--no-growth", help="Measure other sizes than the bundle's own.")
    ] = True,
    threads: Threads = None,
    seed: Seed = 0,
    quick: Quick = False,
    device: Device = "auto",
    out: Results = None,
    as_json: AsJson = False,
) -> None:
    """Recall and queries a second of every kind of vector index, over the bundle's own items and users."""
    from benchmarks.result_lines import begin_run
    from benchmarks.sweep import parse_whole_numbers, use_cores
    from benchmarks.terminal import record, run_context
    from benchmarks.vector_index.run import GROWTH, curves_of

    with use_cores(threads):
        curves = curves_of(bundle, device=device, seed=seed, seconds=seconds or (0.1 if quick else 2.0), few=quick)
        grown = parse_whole_numbers("--sizes", sizes or ("1000,3000" if quick else GROWTH)) if growth else ()
        n, dim = curves.items.shape
        shape = {"items": n, "dimensions": dim, "queries": len(curves.queries)}
        run = begin_run(run_context(shape, bundle=bundle, threads=threads, quick=quick), device=device)
        record(run, curves.lines(kind, grown), out=out, as_json=as_json)


@bench.command()
def tuning(
    vectors: Annotated[
        Path | None, typer.Option(help="A file of item vectors, float32 [n, dim], written by numpy.save.")
    ] = None,
    queries: Annotated[Path | None, typer.Option(help="A file of query vectors of the same kind.")] = None,
    items: Annotated[int, typer.Option(min=1_000, help="Item vectors to generate where no file is given.")] = 300_000,
    dim: Annotated[int, typer.Option(min=8, help="Dimensions of generated vectors.")] = 384,
    recall: Annotated[float, typer.Option(min=0.0, max=1.0, help="Recall@100 that the index has to reach.")] = 0.95,
    memory: Annotated[str | None, typer.Option(help="Memory that the index may take, such as 4GiB.")] = None,
    seconds: Annotated[float | None, typer.Option(min=0.0, help="Time for each comparison.  [default: 5]")] = None,
    threads: Threads = None,
    seed: Seed = 0,
    quick: Quick = False,
    out: Results = None,
    as_json: AsJson = False,
) -> None:
    """The index that tuning picks for a large catalogue, beside exact search: recall, time, memory, and under
    filters."""
    from benchmarks.result_lines import begin_run
    from benchmarks.sweep import use_cores
    from benchmarks.terminal import record, run_context
    from benchmarks.vector_index.run import generate_vectors, load_vectors
    from benchmarks.vector_index.tuned import TunedRun
    from retrieval.errors import BadConfig
    from serving.cli.options import settings_of

    if (vectors is None) != (queries is None):
        raise BadConfig("--vectors and --queries belong together; give both, or neither to generate vectors")
    allowed = settings_of(options={"memory": memory}).index.memory
    with use_cores(threads):
        if vectors is not None and queries is not None:
            source = load_vectors(vectors, queries)
        else:
            source = generate_vectors(min(items, 30_000) if quick else items, dim, seed)
        n, width = source.items.shape
        spent = seconds if seconds is not None else 0.5 if quick else 5.0
        measured = TunedRun(
            items=source.items, queries=source.queries, target=recall, memory=allowed, seconds=spent, seed=seed
        )
        about = {"vectors": source.name, "items": n, "dimensions": width, "recall": recall, "memory": memory}
        run = begin_run(run_context(about, threads=threads, quick=quick))
        record(run, measured.lines(), out=out, as_json=as_json)
