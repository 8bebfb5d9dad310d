"""`shortlist bench rerank`, `frontier`, `encode` and `train`: models and what they cost."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from benchmarks.cli.group import Quick, Results, Seed, Threads, bench
from serving.cli.options import AsJson, BudgetOption, Bundle, Changes, DataArgument, Device


@bench.command()
def rerank(
    bundle: Bundle,
    model: Annotated[
        Path | None, typer.Option(help="A CrossEncoder folder in place of the bundle's own cross-encoder.")
    ] = None,
    rounds: Annotated[int | None, typer.Option(min=1, help="Timings of each way; 30 where not given.")] = None,
    candidates: Annotated[
        str | None, typer.Option(metavar="N,N", help="Pairs of a shortlist; 10,100,1000 where not given.")
    ] = None,
    threads: Annotated[
        str | None,
        typer.Option(metavar="N,N", help="Cores of each process; 1 and all where not given, all with --quick."),
    ] = None,
    request: Annotated[Path | None, typer.Option(hidden=True, help="A request that was drawn before.")] = None,
    seed: Seed = 0,
    quick: Quick = False,
    device: Device = "auto",
    out: Results = None,
    as_json: AsJson = False,
) -> None:
    """Milliseconds of the cross-encoder run every way there is, beside CrossEncoder.predict, by candidates and cores.

    What is reranked is a real request of the shop, of median length, with the candidates that the bundle's retrieval
    gives it: a shopper's recommendation, or a search where no shoppers are known.
    """
    from benchmarks.models.rerank_request import RerankRequest
    from benchmarks.models.run import ModelRuns
    from benchmarks.result_lines import begin_run
    from benchmarks.sweep import parse_whole_numbers, use_cores
    from benchmarks.terminal import record, run_context
    from retrieval.encoders.runtime import available_cores

    numbers = parse_whole_numbers("--threads", threads or ("" if quick else "1,") + str(available_cores()))
    with use_cores(numbers[0] if len(numbers) == 1 else None):
        sizes = parse_whole_numbers("--candidates", candidates or ("10,30" if quick else "10,100,1000"))
        runs = ModelRuns(bundle, device, rounds=rounds or (2 if quick else 30), sizes=sizes, seed=seed)
        ranker = runs.ranker(model)
        asked = runs.request(ranker) if request is None else RerankRequest.read(request)
        told = asked.about(ranker, sizes)
        about = run_context(told, bundle=bundle, model=model and model.name, seed=seed or None, quick=quick)
        run = begin_run(about, device=device)
        record(run, runs.rerank(ranker, asked, numbers), out=out, as_json=as_json)


@bench.command()
def frontier(
    bundle: Bundle,
    data: DataArgument,
    depth: Annotated[int, typer.Option(min=1, help="Places that are reranked.")] = 100,
    kept: Annotated[str, typer.Option(metavar="N,N", help="Places that the full model orders in a cascade.")] = "10,25",
    only: Annotated[
        str, typer.Option(metavar="WORD,WORD", help="Ways whose name holds one of these; full fp32 is always there.")
    ] = "",
    fold: Annotated[str, typer.Option(help="Whose requests: test or gate.")] = "test",
    lists: Annotated[int, typer.Option(min=1, help="Shortlists of each kind whose order is measured.")] = 500,
    threads: Threads = None,
    quick: Quick = False,
    device: Device = "auto",
    out: Results = None,
    as_json: AsJson = False,
) -> None:
    """Milliseconds of each way of reranking a shortlist, and the share of the full model's lift that it keeps."""
    from benchmarks.models.frontier_run import FrontierRun
    from benchmarks.result_lines import begin_run
    from benchmarks.sweep import parse_whole_numbers, use_cores
    from benchmarks.terminal import record, run_context

    if fold not in ("test", "gate"):
        raise typer.BadParameter(f"{fold!r} is no fold to measure on; use test or gate", param_hint="--fold")
    with use_cores(threads):
        about = run_context(
            bundle=bundle, data=data, quick=quick, threads=threads, fold=fold if fold != "test" else None,
            places=depth if depth != 100 else None, kept=kept if kept != "10,25" else None,
            lists=lists if lists != 500 else None,
        )  # fmt: skip
        run = begin_run(about, device=device)
        words, places = [word.strip() for word in only.split(",") if word.strip()], parse_whole_numbers("--kept", kept)
        measured = FrontierRun(bundle, data, depth, places, fold, device=device, quick=quick, only=words, lists=lists)
        record(run, measured.lines(), out=out, as_json=as_json)


@bench.command()
def encode(
    bundle: Bundle,
    data: Annotated[
        Path | None, typer.Option(help="The bundle's data, with judged queries: search's recall by each way as well.")
    ] = None,
    rounds: Annotated[int | None, typer.Option(min=1, help="Timings of each way; 5 where not given.")] = None,
    threads: Threads = None,
    seed: Seed = 0,
    quick: Quick = False,
    device: Device = "auto",
    out: Results = None,
    as_json: AsJson = False,
) -> None:
    """Texts a second of the text encoder run every way there is, beside SentenceTransformer.encode."""
    from itertools import chain

    from benchmarks.models.encoder_recall import SearchedRun
    from benchmarks.models.run import ModelRuns
    from benchmarks.result_lines import begin_run
    from benchmarks.sweep import use_cores
    from benchmarks.terminal import record, run_context

    with use_cores(threads):
        texts = 40 if quick else 2_000
        runs = ModelRuns(bundle, device, rounds=rounds or (1 if quick else 5), texts=texts, seed=seed)
        run = begin_run(
            run_context(
                bundle=bundle,
                data=data,
                texts=texts,
                threads=threads,
                quick=quick,
                seed=seed or None,
                tokens_of_texts=runs.tokens(),
            ),
            device=device,
        )
        searched = SearchedRun(bundle, data, device, quick).lines() if data is not None else ()
        record(run, chain(searched, runs.encode()), out=out, as_json=as_json)


@bench.command()
def train(
    data: DataArgument,
    changes: Changes = None,
    budget: BudgetOption = "default",
    share: Annotated[float | None, typer.Option(min=0.0, max=1.0, help="Of the shoppers, who train.")] = None,
    quick: Quick = False,
    device: Device = "auto",
    out: Results = None,
    as_json: AsJson = False,
) -> None:
    """Examples a second of every part of a training, memory, and validation figures against wall time."""
    from benchmarks.models.training_speed import QUICK, QUICK_SHARE, TrainingRun
    from benchmarks.result_lines import begin_run
    from benchmarks.terminal import record, run_context
    from retrieval.settings import Budget
    from serving.settings import read_settings

    config = read_settings(changes=[*(QUICK if quick else ()), *(changes or [])])
    part = share if share is not None else QUICK_SHARE if quick else 1.0
    spent: Budget = "quick" if quick else budget
    told = " ".join(changes) if changes else None
    run = begin_run(run_context(data=data, share=part, budget=spent, changes=told, quick=quick), device=device)
    record(run, TrainingRun(data, config, spent, device, part).lines(), out=out, as_json=as_json)
