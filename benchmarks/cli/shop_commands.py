"""`shortlist bench latency`, `http`, `churn`, `recall`, `explain` and `peers`: a whole bundle and its data set."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from benchmarks.cli.group import OptionalBundle, Quick, Results, Seed, Threads, bench
from serving.cli.options import AsJson, Bundle, Data, Device


@bench.command()
def latency(
    bundle: Bundle,
    sweep: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=VALUE,...",
            help="A setting to vary: k, shortlist, depth, rerank, precision, runtime, threads, filters, deadline_ms.",
        ),
    ] = None,
    call: Annotated[
        str | None,
        typer.Option(
            metavar="KIND",
            help="The call for load and sweeps: search, recommend, similar or cart.  [default: one that is reranked]",
        ),
    ] = None,
    bound_ms: Annotated[float, typer.Option(min=0.0, help="The highest p99 that counts as keeping up.")] = 50.0,
    seconds: Annotated[float | None, typer.Option(min=0.0, help="Time for each measurement.  [default: 10]")] = None,
    load: Annotated[bool, typer.Option("--load/--no-load", help="Measure under load as well.")] = True,
    threads: Threads = None,
    seed: Seed = 0,
    quick: Quick = False,
    device: Device = "auto",
    out: Results = None,
    as_json: AsJson = False,
) -> None:
    """Latency of an engine's calls: by stage, first answers, under load, and the highest rate that keeps p99 in
    bounds."""
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
        measured = LatencyRun(bundle, limits, device=device, seed=seed, bound=bound_ms, call=call)
        queries = measured.workload.query_source
        about = run_context(bundle=bundle, threads=threads, queries=queries, seed=seed or None, quick=quick)
        run = begin_run(about, device=device)
        record(run, measured.lines(sweeps, load=load), out=out, as_json=as_json)


@bench.command()
def live(
    bundle: Bundle,
    rate: Annotated[float, typer.Option(min=1.0, help="Events a second.")] = 2_000.0,
    call: Annotated[
        str, typer.Option(metavar="KIND", help="The call beside: recommend, 'recommend, not reranked', search, cart.")
    ] = "recommend, not reranked",
    events: Annotated[
        str | None, typer.Option(metavar="STORE", help="A file or a redis:// URL to write to.  [default: a new file]")
    ] = None,
    seconds: Annotated[float, typer.Option(min=0.0, help="Time for each measurement.")] = 10.0,
    rounds: Annotated[int, typer.Option(min=1, help="How often each is measured, in turn.")] = 4,
    seed: Seed = 0,
    threads: Threads = None,
    device: Device = "auto",
    out: Results = None,
    as_json: AsJson = False,
) -> None:
    """How soon a recorded event counts, and how much longer requests take while events are recorded."""
    from benchmarks.latency.live import LiveRun
    from benchmarks.result_lines import begin_run
    from benchmarks.sweep import use_cores
    from benchmarks.terminal import record, run_context

    with use_cores(threads):
        measured = LiveRun(bundle, rate, seconds, rounds, kind=call, device=device, seed=seed, place=events)
        run = begin_run(run_context(bundle=bundle, threads=threads, seed=seed or None, rate=f"{rate:g}"), device=device)
        record(run, measured.lines(), out=out, as_json=as_json)


@bench.command("in-time")
def in_time(
    bundle: Bundle,
    only: Annotated[
        Literal["many", "shared", "deadlines"] | None, typer.Option(help="What to measure.  [default: all three]")
    ] = None,
    seconds: Annotated[float, typer.Option(min=0.0, help="Time for each measurement.")] = 10.0,
    every_gate: Annotated[
        bool, typer.Option("--every-gate", help="Let the cross-encoder rerank even where its gate says no.")
    ] = False,
    threads: Threads = None,
    seed: Seed = 0,
    device: Device = "auto",
    out: Results = None,
    as_json: AsJson = False,
) -> None:
    """Many requests at once against one by one, batches that 16 callers share or do not, and how deadlines are kept."""
    from benchmarks.latency.in_time import PARTS, InTimeRun
    from benchmarks.result_lines import begin_run
    from benchmarks.sweep import use_cores
    from benchmarks.terminal import record, run_context

    measured = InTimeRun(bundle, device, seconds, seed, every_gate)
    with use_cores(threads):
        about = run_context(bundle=bundle, threads=threads, seed=seed or None, every_gate=every_gate)
        run = begin_run(about, device=device)
        record(run, measured.lines(PARTS if only is None else (only,)), out=out, as_json=as_json)


@bench.command("http")
def over_http(
    bundle: Bundle,
    seconds: Annotated[float, typer.Option(min=0.0, help="Time for each comparison.")] = 10.0,
    steady: Annotated[
        float, typer.Option(min=0.0, help="Seconds of steady load, while events come and releases change; 0: none.")
    ] = 180.0,
    workers: Annotated[int, typer.Option(min=1, help="Processes of the server.")] = 1,
    seed: Seed = 0,
    threads: Threads = None,
    device: Device = "auto",
    out: Results = None,
    as_json: AsJson = False,
) -> None:
    """What the server adds to an engine in the same process, and a steady load while its bundle changes, on a copy."""
    from benchmarks.latency.over_http import HttpRun
    from benchmarks.result_lines import begin_run
    from benchmarks.sweep import use_cores
    from benchmarks.terminal import record, run_context
    from retrieval.extras import require_extra

    require_extra("serve", "the server")
    with use_cores(threads):
        measured = HttpRun(bundle, seconds, steady, workers, device, seed)
        run = begin_run(run_context(bundle=bundle, threads=threads, seed=seed or None), device=device)
        record(run, measured.lines(), out=out, as_json=as_json)


@bench.command()
def churn(
    bundle: Bundle,
    seconds: Annotated[float, typer.Option(min=0.0, help="Time in which everything is done.")] = 180.0,
    publishes: Annotated[int, typer.Option(min=0, help="Publishes, rollbacks and activations, in turn.")] = 20,
    updates: Annotated[int, typer.Option(min=0, help="Items to change, delete or add.")] = 2_000,
    events: Annotated[int, typer.Option(min=0, help="Events to record.")] = 20_000,
    reloads: Annotated[int, typer.Option(min=0, help="Rules files to put in place.")] = 5,
    seed: Seed = 0,
    threads: Threads = None,
    device: Device = "auto",
    out: Results = None,
    as_json: AsJson = False,
) -> None:
    """Whether every answer is right while releases, items, rules and events change all the time, in a copy of the
    bundle; ends with exit code 3 where one is not, a call fails, or memory grows."""
    from benchmarks.latency.churn import ChurnRun, failures
    from benchmarks.result_lines import begin_run
    from benchmarks.sweep import use_cores
    from benchmarks.terminal import record, run_context
    from retrieval.errors import Regressed

    with use_cores(threads):
        measured = ChurnRun(bundle, seconds, publishes, updates, events, reloads, device, seed)
        run = begin_run(run_context(bundle=bundle, threads=threads, seed=seed or None), device=device)
        lines = record(run, measured.lines(), out=out, as_json=as_json)
    if wrong := failures(lines):
        raise Regressed(f"{bundle}: {'; '.join(wrong)}")


@bench.command()
def recall(
    data: Data,
    bundle: OptionalBundle = None,
    quick: Quick = False,
    device: Device = "auto",
    out: Results = None,
    as_json: AsJson = False,
) -> None:
    """Quality of every stage and baseline with intervals: recall, nDCG, slices, diversity, revenue, and lost
    targets."""
    from benchmarks.quality.run import RecallRun
    from benchmarks.result_lines import begin_run
    from benchmarks.terminal import record, run_context

    measured = RecallRun(data, bundle, device=device, quick=quick)
    run = begin_run(run_context(data=data, release=measured.release_id(), quick=quick), device=device)
    record(run, measured.lines(), out=out, as_json=as_json)


@bench.command()
def explain(
    bundle: Bundle,
    seed: Seed = 0,
    quick: Quick = False,
    device: Device = "auto",
    out: Results = None,
    as_json: AsJson = False,
) -> None:
    """Whether explanations name what moves a score, what they cost, and how long `why_not` takes."""
    from benchmarks.latency.explanations import ExplainRun
    from benchmarks.result_lines import begin_run
    from benchmarks.terminal import record, run_context

    measured = ExplainRun(bundle, device=device, seed=seed, quick=quick)
    run = begin_run(run_context(bundle=bundle, seed=seed or None, quick=quick), device=device)
    record(run, measured.lines(), out=out, as_json=as_json)


@bench.command()
def peers(
    data: Data,
    bundle: OptionalBundle = None,
    model: Annotated[
        str | None, typer.Option(help="The SentenceTransformer of the peers that read texts, a folder or an id.")
    ] = None,
    cross_encoder: Annotated[
        str | None, typer.Option(help="The CrossEncoder that reranks a peer's search.  [default: the bundle's own]")
    ] = None,
    epochs: Annotated[int | None, typer.Option(min=1, help="Epochs of SASRec at most.")] = None,
    threads: Threads = None,
    seed: Seed = 1,
    quick: Quick = False,
    device: Device = "auto",
    out: Results = None,
    as_json: AsJson = False,
) -> None:
    """Other libraries on the same split, with their quality, latency, throughput, build time and memory.

    implicit (ALS, BPR, item-kNN), SASRec of item ids, bm25s, and sentence-transformers with FAISS and a CrossEncoder.
    """
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
