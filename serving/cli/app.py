"""The command `shortlist`. Every command imports what it needs when it runs, so that `--help` is quick."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from serving.cli import ask
from serving.cli.command_group import ShortlistGroup
from serving.cli.index import index
from serving.cli.options import (
    AsJson,
    BudgetOption,
    Bundle,
    Changes,
    ConfigFile,
    Data,
    DataArgument,
    Debug,
    Device,
    Limits,
    MaxBad,
    MaxUnknown,
    NewBundle,
    Sample,
    pipeline_of,
    quiet_libraries,
    settings_of,
)
from serving.cli.release import release
from serving.cli.show import say, show_evaluation, show_json, show_seconds

if TYPE_CHECKING:
    from serving.jobs.run import RunResult

app = typer.Typer(
    cls=ShortlistGroup,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
train = typer.Typer(no_args_is_help=True, help="Train one model alone.")
app.add_typer(train, name="train")
app.add_typer(index, name="index")
app.add_typer(release, name="release")
ask.add_commands(app)


@app.callback()
def main(debug: Debug = False) -> None:
    """Two-tower retrieval and cross-encoder ranking for shops: parquet in, reranked answers out."""


@app.command()
def check(data: DataArgument, max_bad: MaxBad = None, max_unknown: MaxUnknown = None, as_json: AsJson = False) -> None:
    """Validate a data set: what it holds, and what is wrong with it."""
    from retrieval.data.dataset import check as check_data

    limits = settings_of(options={"max_bad": max_bad, "max_unknown": max_unknown}).data
    report = check_data(data, max_bad=limits.max_bad, max_unknown=limits.max_unknown)
    if as_json:
        show_json(report.to_dict())
    else:
        print("\n".join(line for line in report.lines() if not line.startswith("refused: ")))
    report.raise_if_refused()


@app.command()
def run(
    bundle: NewBundle,
    data: Data,
    config: ConfigFile = None,
    changes: Changes = None,
    budget: BudgetOption = "default",
    rerank_sample: Sample = None,
    device: Device = "auto",
    max_bad: MaxBad = None,
    max_unknown: MaxUnknown = None,
    as_json: AsJson = False,
) -> None:
    """Check, train towers, build the index, fuse sources, train the ranker, gate, evaluate, publish."""
    limits: Limits = {"max_bad": max_bad, "max_unknown": max_unknown, "rerank_sample": rerank_sample}
    pipeline = pipeline_of(bundle, data, config, changes, budget=budget, device=device, options=limits)
    with quiet_libraries():
        result = pipeline.run()
    show_run(result, as_json)


@app.command()
def evaluate(
    bundle: Bundle,
    data: Data,
    rerank_sample: Sample = None,
    device: Device = "auto",
    as_json: AsJson = False,
) -> None:
    """Every stage of the live release and every baseline, side by side."""
    from indexing.bundle.bundle import Bundle as Releases
    from serving.jobs.run import Pipeline
    from serving.jobs.train_one import index_ids, recorded_settings

    releases = Releases.open(bundle)
    settings = settings_of(base=recorded_settings(releases), options={"rerank_sample": rerank_sample})
    pipeline = Pipeline(data, bundle, settings, device=device, say=say)
    with quiet_libraries():
        shop = pipeline.open_shop(like=index_ids(releases, releases.current()))
        evaluation, report = pipeline.evaluate_live(shop, releases)
    show_json(evaluation) if as_json else show_evaluation(evaluation, report)


@app.command()
def adopt(
    bundle: NewBundle,
    data: Data,
    encoder: Annotated[str, typer.Option(help="A SentenceTransformer: a folder or a model id.")],
    ranker: Annotated[str | None, typer.Option(help="A CrossEncoder: a folder or a model id.")] = None,
    vectors: Annotated[Path | None, typer.Option(help="Item vectors: parquet of item_id and vector.")] = None,
    config: ConfigFile = None,
    changes: Changes = None,
    device: Device = "auto",
    max_bad: MaxBad = None,
    max_unknown: MaxUnknown = None,
) -> None:
    """A bundle from models that are there already; nothing is trained."""
    from serving.jobs.adopt import Adoption

    limits = {"max_bad": max_bad, "max_unknown": max_unknown}
    pipeline = pipeline_of(bundle, data, config, changes, device=device, options=limits)
    with quiet_libraries():
        release = Adoption(encoder, ranker, vectors).publish(pipeline)
    print(f"release {release.id} of {bundle} is live, {'with' if release.ranker else 'without'} a reranker")


@train.command()
def towers(
    bundle: NewBundle,
    data: Data,
    config: ConfigFile = None,
    changes: Changes = None,
    budget: BudgetOption = "default",
    device: Device = "auto",
    max_bad: MaxBad = None,
    max_unknown: MaxUnknown = None,
) -> None:
    """Train the towers and build the index; publish them without a reranker."""
    from serving.jobs.train_one import train_towers

    limits = {"max_bad": max_bad, "max_unknown": max_unknown}
    pipeline = pipeline_of(bundle, data, config, changes, budget=budget, device=device, options=limits)
    with quiet_libraries():
        release = train_towers(pipeline)
    print(f"release {release.id} of {bundle} is live, without a reranker")
    show_seconds(pipeline.seconds)


@train.command()
def ranker(
    bundle: NewBundle,
    data: Data,
    config: ConfigFile = None,
    changes: Changes = None,
    budget: BudgetOption = "default",
    rerank_sample: Sample = None,
    device: Device = "auto",
    as_json: AsJson = False,
) -> None:
    """Train a reranker over the live release; gate, evaluate, publish. Settings not named here stay as they were."""
    from indexing.bundle.bundle import Bundle as Releases
    from serving.jobs.train_one import recorded_settings, train_ranker

    base = recorded_settings(Releases.open(bundle))
    options = {"rerank_sample": rerank_sample}
    pipeline = pipeline_of(bundle, data, config, changes, budget=budget, device=device, base=base, options=options)
    with quiet_libraries():
        result = train_ranker(pipeline)
    show_run(result, as_json)


@app.command()
def demo(
    out: Annotated[Path, typer.Option("--out", help="A folder for the generated shop and its bundle.")] = Path("demo"),
    device: Device = "auto",
) -> None:
    """The whole pipeline on a generated shop, and some of its answers."""
    from serving.cli.demo import show_demo

    with quiet_libraries():
        show_demo(out, device=device)


@app.command()
def sample(
    folder: Annotated[Path, typer.Argument(help="Where the parquet files go.")],
    seed: Annotated[int, typer.Option(help="Another seed, another shop.")] = 7,
) -> None:
    """Write a generated shop in the data contract."""
    from indexing.bundle.atomic_files import writing_to
    from retrieval.sample_shop.write import write_sample

    with writing_to(folder):
        write_sample(folder, seed=seed)
    print(f"a generated shop, nothing in it is real: {folder}")


def show_run(result: RunResult, as_json: bool) -> None:
    """The tables and how long it took, or the evaluation object."""
    if as_json:
        show_json(result.evaluation)
    else:
        show_evaluation(result.evaluation, result.report)
        show_seconds(result.seconds)
