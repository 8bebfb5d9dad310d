"""The command `shortlist`. Each command imports what it needs when it runs, so that `--help` is quick."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from retrieval.extras import require_extra
from serving.cli import ask, importing, replay, serve, shoppers
from serving.cli.command_group import ShortlistGroup
from serving.cli.index import index
from serving.cli.keys import keys
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
    EventsFrom,
    Limits,
    MaxBad,
    MaxUnknown,
    NewBundle,
    ReadLanguage,
    Sample,
    ShopLanguage,
    Version,
    pipeline_of,
    quiet_libraries,
    settings_of,
)
from serving.cli.release import release
from serving.cli.rules import rules
from serving.cli.show import say, show_evaluation, show_json, show_live, show_seconds

if TYPE_CHECKING:
    from serving.jobs.run import Pipeline, RunResult

app = typer.Typer(
    cls=ShortlistGroup,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
train = typer.Typer(no_args_is_help=True, help="Train the towers or the ranker alone.")
app.add_typer(train, name="train")
app.add_typer(index, name="index")
app.add_typer(release, name="release")
app.add_typer(rules, name="rules")
app.add_typer(keys, name="keys")
ask.add_commands(app)
importing.add_command(app)
shoppers.add_command(app)
replay.add_command(app)
serve.add_command(app)


@app.callback()
def main(debug: Debug = False, version: Version = False) -> None:
    """Two-tower retrieval and cross-encoder ranking: from parquet files to ranked results."""


@app.command()
def check(data: DataArgument, max_bad: MaxBad = None, max_unknown: MaxUnknown = None, as_json: AsJson = False) -> None:
    """Validate a data set, and show what it holds."""
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
    events_from: EventsFrom = None,
    config: ConfigFile = None,
    changes: Changes = None,
    budget: BudgetOption = "default",
    rerank_sample: Sample = None,
    language: ReadLanguage = None,
    device: Device = "auto",
    max_bad: MaxBad = None,
    max_unknown: MaxUnknown = None,
    as_json: AsJson = False,
) -> None:
    """Train everything and publish a release.

    Checks the data, trains the towers, builds the index, fits the fusion of sources, trains the ranker, decides by the
    gate whether it reranks, evaluates, and makes the release live.
    """
    limits: Limits = {
        "max_bad": max_bad,
        "max_unknown": max_unknown,
        "rerank_sample": rerank_sample,
        "language": language,
    }
    pipeline = pipeline_of(
        bundle, data, config, changes, budget=budget, device=device, options=limits, events_from=events_from
    )
    with quiet_libraries():
        result = pipeline.run()
    show_run(result, pipeline, as_json)


@app.command()
def evaluate(
    bundle: Bundle,
    data: Data,
    rerank_sample: Sample = None,
    language: ReadLanguage = None,
    device: Device = "auto",
    as_json: AsJson = False,
) -> None:
    """Evaluate the live release.

    Shows every stage beside every baseline, and writes a report.
    """
    from indexing.bundle.bundle import Bundle as Releases
    from serving.jobs.run import Pipeline
    from serving.jobs.train_one import index_ids, recorded_settings

    releases = Releases.open(bundle)
    options = {"rerank_sample": rerank_sample, "language": language}
    settings = settings_of(base=recorded_settings(releases), options=options)
    pipeline = Pipeline(data, bundle, settings, device=device, say=say)
    with quiet_libraries():
        shop = pipeline.open_shop(like=index_ids(releases, releases.current()))
        evaluation, report = pipeline.evaluate_live(shop, releases)
    if as_json:
        show_json(evaluation)
    else:
        show_evaluation(evaluation, report, settings.evaluation.language)


@app.command()
def adopt(
    bundle: NewBundle,
    data: Data,
    encoder: Annotated[str, typer.Option(help="A SentenceTransformer: a folder or a model id.")],
    ranker: Annotated[str | None, typer.Option(help="A CrossEncoder: a folder or a model id.")] = None,
    vectors: Annotated[
        Path | None, typer.Option(help="A parquet file of item_id and vector, instead of embedding the items.")
    ] = None,
    config: ConfigFile = None,
    changes: Changes = None,
    device: Device = "auto",
    max_bad: MaxBad = None,
    max_unknown: MaxUnknown = None,
    as_json: AsJson = False,
) -> None:
    """Make a bundle of existing models.

    Nothing is trained: the encoder embeds the items, or their vectors are given, and the ranker reranks.
    """
    from serving.jobs.adopt import Adoption

    limits = {"max_bad": max_bad, "max_unknown": max_unknown}
    pipeline = pipeline_of(bundle, data, config, changes, device=device, options=limits)
    with quiet_libraries():
        release = Adoption(encoder, ranker, vectors).publish(pipeline)
    show_live(release, bundle, as_json)


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
    as_json: AsJson = False,
) -> None:
    """Train the towers and build the index.

    The release that is published has no ranker.
    """
    from serving.jobs.train_one import train_towers

    limits = {"max_bad": max_bad, "max_unknown": max_unknown}
    pipeline = pipeline_of(bundle, data, config, changes, budget=budget, device=device, options=limits)
    with quiet_libraries():
        release = train_towers(pipeline)
    show_live(release, bundle, as_json)
    if not as_json:
        show_seconds(pipeline.seconds)


@train.command()
def ranker(
    bundle: Bundle,
    data: Data,
    config: ConfigFile = None,
    changes: Changes = None,
    budget: BudgetOption = "default",
    rerank_sample: Sample = None,
    device: Device = "auto",
    as_json: AsJson = False,
) -> None:
    """Train the ranker over the live towers.

    Decides by the gate whether it reranks, evaluates, and publishes a release. Settings that are not given are those
    of the live release.
    """
    from indexing.bundle.bundle import Bundle as Releases
    from serving.jobs.train_one import recorded_settings, train_ranker

    base = recorded_settings(Releases.open(bundle))
    options = {"rerank_sample": rerank_sample}
    pipeline = pipeline_of(bundle, data, config, changes, budget=budget, device=device, base=base, options=options)
    with quiet_libraries():
        result = train_ranker(pipeline)
    show_run(result, pipeline, as_json)


@app.command()
def demo(
    out: Annotated[Path, typer.Option("--out", help="The folder for the generated shop and its bundle.")] = Path(
        "demo"
    ),
    language: ShopLanguage = "en",
    device: Device = "auto",
    serve_it: Annotated[bool, typer.Option("--serve", help="Then serve it, with a page in the browser.")] = False,
) -> None:
    """Run everything on a generated shop.

    Writes the shop, trains and publishes a release, and shows some of its answers.
    """
    from serving.cli.demo import serve_demo, show_demo

    if serve_it:
        require_extra("serve", "the server")
    with quiet_libraries():
        show_demo(out, language=language, device=device)
    if serve_it:
        serve_demo(out, device=device)
    else:
        print(f"look at it in a browser: shortlist serve {out / 'bundle'}")


@app.command()
def sample(
    folder: Annotated[Path, typer.Argument(help="The folder to write the parquet files to.")],
    kind: Annotated[
        Literal["general", "groceries"],
        typer.Option(help="A shop with carts and visits, or one with weekly baskets."),
    ] = "general",
    language: ShopLanguage = "en",
    seed: Annotated[int, typer.Option(help="The random seed of the shop.")] = 7,
) -> None:
    """Write a generated shop as a data set."""
    from indexing.bundle.atomic_files import writing_to
    from retrieval.sample_shop.write import write_sample

    with writing_to(folder):
        write_sample(folder, kind=kind, language=language, seed=seed)
    print(f"wrote a generated shop, in which nothing is real, to {folder}")


def show_run(result: RunResult, pipeline: Pipeline, as_json: bool) -> None:
    """The tables and the time of each stage, or the evaluation as JSON."""
    if as_json:
        show_json(result.evaluation)
    else:
        show_evaluation(result.evaluation, result.report, pipeline.config.evaluation.language)
        show_seconds(result.seconds)
