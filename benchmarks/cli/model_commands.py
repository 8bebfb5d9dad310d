"""`shortlist bench rerank`, `frontier`, `encode` and `train`: speed and quality of the models."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from benchmarks.cli.group import Quick, Results, Seed, Threads, bench
from serving.cli.options import AsJson, BudgetOption, Bundle, Changes, Data, Device


@bench.command()
def rerank(
    bundle: Bundle,
    model: Annotated[
        Path | None, typer.Option(help="A CrossEncoder folder in place of the bundle's own cross-encoder.")
    ] = None,
    rounds: Annotated[int | None, typer.Option(min=1, help="Timings of each configuration.  [default: 30]")] = None,
    candidates: Annotated[
        str | None, typer.Option(metavar="N,N", help="Candidates to rerank.  [default: 10,100,1000]")
    ] = None,
    threads: Annotated[
        str | None,
        typer.Option(metavar="N,N", help="Cores; each number in a process of its own.  [default: 1 and all]"),
    ] = None,
    request: Annotated[Path | None, typer.Option(hidden=True, help="A request that another process sampled.")] = None,
    seed: Seed = 0,
    quick: Quick = False,
    device: Device = "auto",
    out: Results = None,
    as_json: AsJson = False,
) -> None:
    """Milliseconds of the cross-encoder in every runtime and precision, beside CrossEncoder.predict.

    The request is a real one of median length with the candidates that the bundle retrieves for it: a recommendation,
    or a search where the bundle knows no users.
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
        sample = runs.request(ranker) if request is None else RerankRequest.read(request)
        facts = sample.facts(ranker, sizes)
        about = run_context(facts, bundle=bundle, model=model and model.name, seed=seed or None, quick=quick)
        run = begin_run(about, device=device)
        record(run, runs.rerank(ranker, sample, numbers), out=out, as_json=as_json)


@bench.command()
def frontier(
    bundle: Bundle,
    data: Data,
    depth: Annotated[int, typer.Option(min=1, help="Candidates that are reranked.")] = 100,
    second_stage_depth: Annotated[
        str, typer.Option(metavar="N,N", help="Candidates that the second stage of a cascade reranks.")
    ] = "10,25",
    only: Annotated[
        str,
        typer.Option(metavar="WORD,WORD", help="Strategies whose name has one of these words; full fp32 always runs."),
    ] = "",
    fold: Annotated[Literal["test", "gate"], typer.Option(help="The fold whose requests are measured.")] = "test",
    lists: Annotated[int, typer.Option(min=1, help="Requests of each task whose order is measured.")] = 500,
    threads: Threads = None,
    quick: Quick = False,
    device: Device = "auto",
    out: Results = None,
    as_json: AsJson = False,
) -> None:
    """Latency of every strategy of reranking against the quality that it gains."""
    from benchmarks.models.frontier_run import FrontierRun
    from benchmarks.result_lines import begin_run
    from benchmarks.sweep import parse_whole_numbers, use_cores
    from benchmarks.terminal import record, run_context

    with use_cores(threads):
        about = run_context(
            bundle=bundle, data=data, quick=quick, threads=threads, fold=fold if fold != "test" else None,
            places=depth if depth != 100 else None, kept=second_stage_depth if second_stage_depth != "10,25" else None,
            lists=lists if lists != 500 else None,
        )  # fmt: skip
        run = begin_run(about, device=device)
        words = [word.strip() for word in only.split(",") if word.strip()]
        seconds = parse_whole_numbers("--second-stage-depth", second_stage_depth)
        measured = FrontierRun(bundle, data, depth, seconds, fold, device=device, quick=quick, only=words, lists=lists)
        record(run, measured.lines(), out=out, as_json=as_json)


@bench.command()
def encode(
    bundle: Bundle,
    data: Annotated[
        Path | None, typer.Option("--data", help="The bundle's data, to measure the recall of judged queries as well.")
    ] = None,
    rounds: Annotated[int | None, typer.Option(min=1, help="Timings of each configuration.  [default: 5]")] = None,
    threads: Threads = None,
    seed: Seed = 0,
    quick: Quick = False,
    device: Device = "auto",
    out: Results = None,
    as_json: AsJson = False,
) -> None:
    """Texts a second of the text encoder in every runtime and precision, beside SentenceTransformer.encode."""
    from itertools import chain

    from benchmarks.models.encoder_recall import EncoderRecallRun
    from benchmarks.models.run import ModelRuns
    from benchmarks.result_lines import begin_run
    from benchmarks.sweep import use_cores
    from benchmarks.terminal import record, run_context

    with use_cores(threads):
        texts = 40 if quick else 2_000
        runs = ModelRuns(bundle, device, rounds=rounds or (1 if quick else 5), texts=texts, seed=seed)
        facts = {"texts": texts, "tokens_of_texts": runs.tokens()}
        about = run_context(facts, bundle=bundle, data=data, threads=threads, quick=quick, seed=seed or None)
        run = begin_run(about, device=device)
        quality = EncoderRecallRun(bundle, data, device, quick).lines() if data is not None else ()
        record(run, chain(quality, runs.encode()), out=out, as_json=as_json)


@bench.command()
def train(
    data: Data,
    changes: Changes = None,
    budget: BudgetOption = "default",
    share: Annotated[float | None, typer.Option(min=0.0, max=1.0, help="Share of the users to train on.")] = None,
    quick: Quick = False,
    device: Device = "auto",
    out: Results = None,
    as_json: AsJson = False,
) -> None:
    """Examples a second and memory of every training loop, and its validation figures over time."""
    from benchmarks.models.training_speed import QUICK, QUICK_SHARE, TrainingRun
    from benchmarks.result_lines import begin_run
    from benchmarks.terminal import record, run_context
    from retrieval.settings import Budget
    from serving.internals import read_settings

    config = read_settings(changes=[*(QUICK if quick else ()), *(changes or [])])
    part = share if share is not None else QUICK_SHARE if quick else 1.0
    spent: Budget = "quick" if quick else budget
    settings = " ".join(changes) if changes else None
    run = begin_run(run_context(data=data, share=part, budget=spent, changes=settings, quick=quick), device=device)
    record(run, TrainingRun(data, config, spent, device, part).lines(), out=out, as_json=as_json)
