"""`shortlist bench latency`, `recall` and `peers`: a bundle, and its shop, as a whole."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from benchmarks.cli.group import Quick, Results, Seed, Threads, bench
from serving.cli.options import AsJson, Bundle, DataArgument, Device


@bench.command()
def latency(
    bundle: Bundle,
    sweep: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=VALUE,...",
            help="k, shortlist, depth, rerank, precision, runtime, threads, filters or deadline_ms.",
        ),
    ] = None,
    call: Annotated[
        str | None,
        typer.Option(
            metavar="KIND", help="The call of load and sweeps: search, recommend, similar, cart; one that is reranked."
        ),
    ] = None,
    bound: Annotated[float, typer.Option(min=0.0, help="Milliseconds that p99 is to stay under.")] = 50.0,
    seconds: Annotated[float | None, typer.Option(min=0.0, help="Of each point; 10 where not given.")] = None,
    load: Annotated[bool, typer.Option("--load/--no-load", help="Callers and arrivals beside single calls.")] = True,
    threads: Threads = None,
    seed: Seed = 0,
    quick: Quick = False,
    device: Device = "auto",
    out: Results = None,
    as_json: AsJson = False,
) -> None:
    """Embedded calls by stage, cold and warm, under load, and the highest rate that keeps p99 under a bound."""
    from dataclasses import replace

    from benchmarks.latency.by_stage import Limits
    from benchmarks.latency.run import LatencyRun
    from benchmarks.result_lines import begin_run
    from benchmarks.sweep import parse_sweep, use_cores
    from benchmarks.terminal import record, run_context

    sweeps = [parse_sweep(text) for text in sweep or []]
    limits = Limits.quick() if quick else Limits()
    limits = replace(limits, seconds=seconds) if seconds is not None else limits
    with use_cores(threads):
        measured = LatencyRun(bundle, limits, device=device, seed=seed, bound=bound, call=call)
        about = run_context(
            bundle=bundle, threads=threads, queries=measured.workload.query_source, seed=seed or None, quick=quick
        )
        run = begin_run(about, device=device)
        record(run, measured.lines(sweeps, load=load), out=out, as_json=as_json)


@bench.command()
def recall(
    data: DataArgument,
    bundle: Annotated[
        Path | None, typer.Option(help="A bundle of these data; the baselines alone without one.")
    ] = None,
    quick: Quick = False,
    device: Device = "auto",
    out: Results = None,
    as_json: AsJson = False,
) -> None:
    """Quality by stage and slice with intervals, beyond accuracy, in money, and where missed targets were lost."""
    from benchmarks.quality.run import RecallRun
    from benchmarks.result_lines import begin_run
    from benchmarks.terminal import record, run_context

    measured = RecallRun(data, bundle, device=device, quick=quick)
    run = begin_run(run_context(data=data, release=measured.release_id(), quick=quick), device=device)
    record(run, measured.lines(), out=out, as_json=as_json)


@bench.command()
def peers(
    data: DataArgument,
    bundle: Annotated[Path | None, typer.Option(help="A bundle of these data, measured beside them.")] = None,
    model: Annotated[str | None, typer.Option(help="The SentenceTransformer of those that read texts.")] = None,
    cross_encoder: Annotated[
        str | None, typer.Option(help="The CrossEncoder that reranks a search, in place of the bundle's own.")
    ] = None,
    epochs: Annotated[int | None, typer.Option(min=1, help="Epochs of SASRec at most.")] = None,
    threads: Threads = None,
    seed: Seed = 1,
    quick: Quick = False,
    device: Device = "auto",
    out: Results = None,
    as_json: AsJson = False,
) -> None:
    """What a shop would write instead: implicit (ALS, BPR, item-kNN), SASRec of ids, bm25s,
    sentence-transformers with FAISS and a CrossEncoder or its ONNX in 8 bits; quality, latency, throughput, build time,
    memory."""
    from dataclasses import replace

    from benchmarks.peers.recommenders import Grids
    from benchmarks.peers.run import PeersRun
    from benchmarks.result_lines import begin_run
    from benchmarks.sweep import use_cores
    from benchmarks.terminal import record, run_context

    grids = Grids.quick() if quick else Grids()
    if epochs is not None:
        grids = replace(grids, sasrec=replace(grids.sasrec, epochs=epochs))
    measured = PeersRun(data, bundle, grids, device, seed, model, cross_encoder, quick)
    with use_cores(threads):
        about = run_context(data=data, bundle=bundle, seed=seed, threads=threads, epochs=epochs, quick=quick)
        run = begin_run(about, device=device)
        record(run, measured.lines(), out=out, as_json=as_json)
