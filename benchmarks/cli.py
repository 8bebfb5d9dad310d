"""`shortlist bench ...`: measurements that say what was measured, on which machine, and how to repeat them.

Every command imports what it needs when it runs, so that `--help` is quick.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, TypeAlias

import typer
from typer.core import TyperGroup

from serving.commands import ended_by
from serving.options import AsJson, BudgetOption, Bundle, Changes, DataArgument, Device


class BenchGroup(TyperGroup):
    """The commands of this room; an error ends them as it ends every other command, however they were started."""

    def invoke(self, ctx: Any) -> Any:
        """Runs the command; an error becomes one line on stderr and an exit code."""
        try:
            return super().invoke(ctx)
        except BaseException as error:
            ended_by(error, debug=bool(ctx.find_root().params.get("debug")))


bench = typer.Typer(
    cls=BenchGroup,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="Measure latency, recall, throughput and peers; compare and report.",
)

Quick: TypeAlias = Annotated[bool, typer.Option("--quick", help="Little of everything: less than a minute.")]
Results: TypeAlias = Annotated[
    Path | None, typer.Option("--out", help="A file of results, one JSON object a line; it is added to.")
]
Seed: TypeAlias = Annotated[int, typer.Option(min=0, help="Which shoppers, items and queries are drawn.")]
Threads: TypeAlias = Annotated[
    int | None, typer.Option(min=1, help="Cores that the process may use; all where not given.")
]


@bench.command()
def latency(
    bundle: Bundle,
    sweep: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=VALUE,...", help="k, depth, rerank, precision, threads, filters or deadline."),
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

    from benchmarks.latency import Effort
    from benchmarks.latency_run import LatencyRun
    from benchmarks.results import begin
    from benchmarks.show import data_of, deliver
    from benchmarks.sweep import parse_sweep, pinned
    from indexing.store import Bundle as Releases

    sweeps = [parse_sweep(text) for text in sweep or []]
    effort = Effort.quick() if quick else Effort()
    effort = replace(effort, seconds=seconds) if seconds is not None else effort
    with pinned(threads):
        run = begin(
            data_of(bundle=bundle.name, release=Releases.open(bundle).current().id, threads=threads), device=device
        )
        measured = LatencyRun(bundle, effort, device=device, seed=seed, bound=bound)
        deliver(run, measured.lines(sweeps, load=load), out=out, as_one=as_json)


@bench.command()
def compare(
    before: Annotated[Path, typer.Argument(help="A file of results, or a bundle.")],
    after: Annotated[Path, typer.Argument(help="Another file of results, or another bundle.")],
    threshold: Annotated[float, typer.Option(min=0.0, help="Loss that ends with exit code 3; 0.05 is 5 %.")] = 0.05,
    seconds: Annotated[float | None, typer.Option(min=0.0, help="Of each kind of call, of bundles; 20.")] = None,
    seed: Seed = 0,
    quick: Quick = False,
    device: Device = "auto",
    as_json: AsJson = False,
) -> None:
    """What changed beyond noise: from one file of results to another, or between two bundles asked in turn."""
    from benchmarks.compare import compared, worse_than
    from benchmarks.latency_run import compared_bundles
    from benchmarks.results import read
    from benchmarks.show import changes_table
    from retrieval.errors import Regressed
    from serving.show import console, show_json

    if before.is_dir() and after.is_dir():
        spent = seconds if seconds is not None else 6.0 if quick else 20.0
        found = compared_bundles(before, after, device=device, seed=seed, seconds=spent)
    else:
        found = compared(read(before), read(after))
    if as_json:
        show_json({"changes": [one._asdict() for one in found]})
    else:
        console().print(changes_table(found))
    if lost := worse_than(found, threshold):
        named = "; ".join(f"{', '.join(one.labels.values())} {one.ratio - 1:+.0%}" for one in lost)
        raise Regressed(f"{after} is worse than {before}: {named}; to allow it: --threshold SHARE")


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
    from benchmarks.recall_run import RecallRun
    from benchmarks.results import begin
    from benchmarks.show import data_of, deliver

    measured = RecallRun(data, bundle, device=device, quick=quick)
    run = begin(data_of(data=data.name, release=measured.release_id()), device=device)
    deliver(run, measured.lines(), out=out, as_one=as_json)


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
    from benchmarks.model_runs import ModelRuns
    from benchmarks.rerank_request import RerankRequest
    from benchmarks.results import begin
    from benchmarks.show import data_of, deliver
    from benchmarks.sweep import pinned, whole_numbers
    from retrieval.runtime import available_cores

    numbers = whole_numbers("--threads", threads or ("" if quick else "1,") + str(available_cores()))
    with pinned(numbers[0] if len(numbers) == 1 else None):
        sizes = whole_numbers("--candidates", candidates or ("10,30" if quick else "10,100,1000"))
        runs = ModelRuns(bundle, device, rounds=rounds or (2 if quick else 30), sizes=sizes, seed=seed)
        ranker = runs.ranker(model)
        asked = runs.request(ranker) if request is None else RerankRequest.read(request)
        run = begin(data_of(bundle=bundle.name, **asked.about(ranker, sizes)), device=device)
        deliver(run, runs.rerank(ranker, asked, numbers), out=out, as_one=as_json)


@bench.command()
def frontier(
    bundle: Bundle,
    data: DataArgument,
    depth: Annotated[int, typer.Option(min=1, help="Places that are reranked.")] = 100,
    kept: Annotated[str, typer.Option(metavar="N,N", help="Places that the full model orders in a cascade.")] = "10,25",
    fold: Annotated[str, typer.Option(help="Whose requests: test or gate.")] = "test",
    threads: Threads = None,
    quick: Quick = False,
    device: Device = "auto",
    out: Results = None,
    as_json: AsJson = False,
) -> None:
    """Milliseconds of each way of reranking a shortlist, and the share of the full model's lift that it keeps."""
    from benchmarks.frontier_run import FrontierRun
    from benchmarks.results import begin
    from benchmarks.show import data_of, deliver
    from benchmarks.sweep import pinned, whole_numbers
    from indexing.store import Bundle as Releases

    if fold not in ("test", "gate"):
        raise typer.BadParameter(f"{fold!r} is no fold to measure on; use test or gate", param_hint="--fold")
    with pinned(threads):
        run = begin(
            data_of(bundle=bundle.name, release=Releases.open(bundle).current().id, data=data.name), device=device
        )
        measured = FrontierRun(bundle, data, depth, whole_numbers("--kept", kept), fold, device=device, quick=quick)
        deliver(run, measured.lines(), out=out, as_one=as_json)


@bench.command()
def encode(
    bundle: Bundle,
    rounds: Annotated[int | None, typer.Option(min=1, help="Timings of each way; 5 where not given.")] = None,
    threads: Threads = None,
    seed: Seed = 0,
    quick: Quick = False,
    device: Device = "auto",
    out: Results = None,
    as_json: AsJson = False,
) -> None:
    """Texts a second of the text encoder run every way there is, beside SentenceTransformer.encode."""
    from benchmarks.model_runs import ModelRuns
    from benchmarks.results import begin
    from benchmarks.show import data_of, deliver
    from benchmarks.sweep import pinned

    with pinned(threads):
        texts = 200 if quick else 2_000
        runs = ModelRuns(bundle, device, rounds=rounds or (2 if quick else 5), texts=texts, seed=seed)
        deliver(begin(data_of(bundle=bundle.name, texts=texts), device=device), runs.encode(), out=out, as_one=as_json)


@bench.command()
def peers(
    data: DataArgument,
    bundle: Annotated[Path | None, typer.Option(help="A bundle of these data, measured beside them.")] = None,
    model: Annotated[str | None, typer.Option(help="The SentenceTransformer of those that read texts.")] = None,
    cross_encoder: Annotated[Path | None, typer.Option(help="A CrossEncoder folder that reranks a search.")] = None,
    rectools: Annotated[
        Path | None, typer.Option(help="An interpreter that has rectools[torch]: its SASRec, too.")
    ] = None,
    epochs: Annotated[int | None, typer.Option(min=1, help="Rounds of SASRec at most; those of RecTools.")] = None,
    seed: Seed = 1,
    quick: Quick = False,
    device: Device = "auto",
    out: Results = None,
    as_json: AsJson = False,
) -> None:
    """What a shop would write instead: implicit (ALS, BPR, item-kNN), SASRec of ids and of RecTools, bm25s,
    sentence-transformers with FAISS and a CrossEncoder; quality, latency, throughput, build time, memory."""
    from dataclasses import replace

    from benchmarks.peers import Grids
    from benchmarks.peers_run import PeersRun
    from benchmarks.results import begin
    from benchmarks.show import data_of, deliver

    grids = Grids.quick() if quick else Grids()
    if epochs is not None:
        sasrec, of_rectools = replace(grids.sasrec, epochs=epochs), grids.rectools._replace(epochs=epochs)
        grids = replace(grids, sasrec=sasrec, rectools=of_rectools)
    run = begin(data_of(data=data.name, bundle=None if bundle is None else bundle.name, seed=seed), device=device)
    measured = PeersRun(data, bundle, grids, device, seed, model, cross_encoder, rectools, quick)
    deliver(run, measured.lines(), out=out, as_one=as_json)


@bench.command()
def report(
    results: Annotated[list[Path], typer.Argument(help="Files of results, shown on one page.")],
    out: Annotated[Path, typer.Option(help="The page, one HTML file that loads nothing.")] = Path("benchmarks.html"),
    before: Annotated[Path | None, typer.Option(help="Earlier results, to say what changed.")] = None,
    title: Annotated[str, typer.Option(help="Over the page.")] = "Benchmarks",
) -> None:
    """One page of results: quality, recall and latency curves, stages, load, peers, changes, environment."""
    from benchmarks.report import write_page
    from benchmarks.results import read

    found = [one for path in results for one in read(path)]
    write_page(found, out, title=title, before=[] if before is None else read(before))
    print(out)


@bench.command()
def readme(path: Annotated[Path, typer.Argument(help="A text with markers, such as README.md.")]) -> None:
    """Write the tables between a text's markers anew, from the results in benchmarks/results."""
    from benchmarks.readme import with_tables
    from retrieval.errors import BadData
    from serving.report import write_whole

    try:
        text = path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise BadData(f"{path}: cannot be read ({error}); name a text file") from error
    write_whole(with_tables(text), path)


@bench.command()
def index(
    bundle: Bundle,
    seconds: Annotated[float | None, typer.Option(min=0.0, help="Of each setting; 2 where not given.")] = None,
    sizes: Annotated[
        str | None, typer.Option(metavar="N,N", help="Growth: the first so many items, built and searched.")
    ] = None,
    threads: Threads = None,
    seed: Seed = 0,
    quick: Quick = False,
    device: Device = "auto",
    out: Results = None,
    as_json: AsJson = False,
) -> None:
    """Recall against queries a second of every kind of index over the bundle's own vectors, for its own shoppers."""
    from benchmarks.index_run import curves_of
    from benchmarks.results import begin
    from benchmarks.show import data_of, deliver
    from benchmarks.sweep import pinned, whole_numbers

    with pinned(threads):
        curves = curves_of(bundle, device=device, seed=seed, seconds=seconds or (0.1 if quick else 2.0), few=quick)
        grown = () if sizes is None else whole_numbers("--sizes", sizes)
        n, dim = curves.items.shape
        run = begin(
            data_of(bundle=bundle.name, items=n, dimensions=dim, queries=len(curves.queries), threads=threads),
            device=device,
        )
        deliver(run, curves.lines(sizes=[size for size in grown if size <= n]), out=out, as_one=as_json)


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
    from benchmarks.index_run import made, saved
    from benchmarks.results import begin
    from benchmarks.show import data_of, deliver
    from benchmarks.sweep import pinned
    from benchmarks.tuned import TunedRun
    from indexing.sizes import bytes_of
    from retrieval.errors import BadConfig

    if (vectors is None) != (queries is None):
        raise BadConfig("--vectors and --queries belong together; give both, or neither to have vectors made")
    allowed = None if memory is None else bytes_of(memory)
    with pinned(threads):
        if vectors is not None and queries is not None:
            given = saved(vectors, queries)
        else:
            given = made(min(items, 30_000) if quick else items, dim, seed)
        n, width = given.items.shape
        spent = seconds if seconds is not None else 0.5 if quick else 5.0
        measured = TunedRun(
            items=given.items, queries=given.queries, target=recall, memory=allowed, seconds=spent, seed=seed
        )
        run = begin(
            data_of(vectors=given.about, items=n, dimensions=width, recall=recall, memory=memory, threads=threads)
        )
        deliver(run, measured.lines(), out=out, as_one=as_json)


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
    from benchmarks.results import begin
    from benchmarks.show import data_of, deliver
    from benchmarks.training import QUICK, QUICK_SHARE, TrainingRun
    from serving.settings import read_settings

    config = read_settings(changes=[*(QUICK if quick else ()), *(changes or [])])
    part = share if share is not None else QUICK_SHARE if quick else 1.0
    measured = TrainingRun(data, config, "quick" if quick else budget, device, part)
    deliver(
        begin(data_of(data=data.name, share=part, budget=budget), device=device),
        measured.lines(),
        out=out,
        as_one=as_json,
    )
