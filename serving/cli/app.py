"""The command `shortlist`. Every command imports what it needs when it runs, so that `--help` is quick."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from retrieval.errors import BadRequest
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
    Filter,
    FilterSeen,
    K,
    Limits,
    MaxBad,
    MaxUnknown,
    Out,
    Sample,
    User,
    pipeline_of,
    quiet_libraries,
    settings_of,
)
from serving.cli.show import say, show_answer, show_evaluation, show_json, show_seconds

if TYPE_CHECKING:
    from serving.jobs.run import RunResult
    from serving.request import Filters

app = typer.Typer(
    cls=ShortlistGroup,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
train = typer.Typer(no_args_is_help=True, help="Train one model alone.")
app.add_typer(train, name="train")
app.add_typer(index, name="index")


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
    data: Data,
    out: Out,
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
    pipeline = pipeline_of(data, out, config, changes, budget=budget, device=device, options=limits)
    with quiet_libraries():
        result = pipeline.run()
    show_run(result, as_json)


@app.command()
def recommend(
    bundle: Bundle,
    user: User = None,
    history: Annotated[str | None, typer.Option(metavar="ITEM,ITEM", help="Item ids, oldest first.")] = None,
    query: Annotated[str | None, typer.Option(help="What is searched for.")] = None,
    k: K = 10,
    filter_seen: FilterSeen = None,
    filter_: Filter = None,
    device: Device = "auto",
    as_json: AsJson = False,
) -> None:
    """The best items for a shopper, or for a history of items."""
    from serving.engine import Engine

    if user is None and history is None and query is None:
        raise BadRequest("recommend: give --user USER, --history ITEM,ITEM or --query TEXT")
    items = None if history is None else item_ids(history)
    filters = filters_of(filter_)
    engine = Engine.open(bundle, device=device, auto_reload=False)
    answer = engine.recommend(user_id=user, history=items, query=query, k=k, filter_seen=filter_seen, filters=filters)
    show_json(answer.to_dict()) if as_json else show_answer(answer, f"for {user or history or query}")


@app.command()
def search(
    bundle: Bundle,
    text: Annotated[str, typer.Argument(help="What is searched for.")],
    user: User = None,
    k: K = 10,
    as_typed: Annotated[bool, typer.Option("--as-typed", help="No word is taken for another.")] = False,
    filter_: Filter = None,
    device: Device = "auto",
    as_json: AsJson = False,
) -> None:
    """The best items for a query, leaning towards what the shopper likes, if one is given."""
    from serving.engine import Engine

    filters = filters_of(filter_)
    engine = Engine.open(bundle, device=device, auto_reload=False)
    answer = engine.search(text, user_id=user, k=k, filters=filters, spellcheck=not as_typed)
    show_json(answer.to_dict()) if as_json else show_answer(answer, f"search: {text}")


@app.command()
def similar(
    bundle: Bundle,
    item: Annotated[str, typer.Argument(help="An item id.")],
    k: K = 10,
    filter_: Filter = None,
    device: Device = "auto",
    as_json: AsJson = False,
) -> None:
    """The items nearest to an item."""
    from serving.engine import Engine

    filters = filters_of(filter_)
    answer = Engine.open(bundle, device=device, auto_reload=False).similar(item, k=k, filters=filters)
    show_json(answer.to_dict()) if as_json else show_answer(answer, f"like {item}")


@app.command()
def cart(
    bundle: Bundle,
    items: Annotated[str, typer.Argument(metavar="ITEM,ITEM", help="Item ids in the cart.")],
    user: User = None,
    k: K = 10,
    filter_: Filter = None,
    device: Device = "auto",
    as_json: AsJson = False,
) -> None:
    """The items that best go on from a cart."""
    from serving.engine import Engine

    cart, filters = item_ids(items), filters_of(filter_)
    answer = Engine.open(bundle, device=device, auto_reload=False).complete_cart(
        cart, user_id=user, k=k, filters=filters
    )
    show_json(answer.to_dict()) if as_json else show_answer(answer, f"with {items}")


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
    data: Data,
    out: Out,
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
    pipeline = pipeline_of(data, out, config, changes, device=device, options=limits)
    with quiet_libraries():
        release = Adoption(encoder, ranker, vectors).publish(pipeline)
    print(f"release {release.id} of {out} is live, {'with' if release.ranker else 'without'} a reranker")


@train.command()
def retriever(
    data: Data,
    out: Out,
    config: ConfigFile = None,
    changes: Changes = None,
    budget: BudgetOption = "default",
    device: Device = "auto",
    max_bad: MaxBad = None,
    max_unknown: MaxUnknown = None,
) -> None:
    """Train the towers and build the index; publish them without a reranker."""
    from serving.jobs.train_one import train_retriever

    limits = {"max_bad": max_bad, "max_unknown": max_unknown}
    pipeline = pipeline_of(data, out, config, changes, budget=budget, device=device, options=limits)
    with quiet_libraries():
        release = train_retriever(pipeline)
    print(f"release {release.id} of {out} is live, without a reranker")
    show_seconds(pipeline.seconds)


@train.command()
def ranker(
    data: Data,
    out: Out,
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

    base = recorded_settings(Releases.open(out))
    options = {"rerank_sample": rerank_sample}
    pipeline = pipeline_of(data, out, config, changes, budget=budget, device=device, base=base, options=options)
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


def item_ids(text: str) -> list[str]:
    """Ids separated by commas, or a JSON list where an id holds one.

    >>> item_ids("a, b"), item_ids('["a,b", "c"]'), item_ids("")
    (['a', 'b'], ['a,b', 'c'], [])
    """
    if text.startswith("["):
        try:
            found = json.loads(text)
        except ValueError as error:
            raise BadRequest(f"{text}: is not a JSON list of item ids ({error})") from error
        return [str(item) for item in found]
    return [part.strip() for part in text.split(",") if part.strip()]


def filters_of(text: str | None) -> Filters | None:
    """Filters from JSON: lists of [column, operator, value], all of which are to hold, or a list of such lists, any of
    which is.

    >>> filters_of('[["price", "<", 20], ["in_stock", "=", true]]')
    [('price', '<', 20), ('in_stock', '=', True)]
    >>> filters_of('[[["price", "<", 20]], [["brand", "in", ["Acme"]]]]')
    [[('price', '<', 20)], [('brand', 'in', ['Acme'])]]
    """
    if text is None:
        return None
    try:
        found = json.loads(text)
    except ValueError as error:
        raise BadRequest(f"--filter: {text} is not JSON ({error})") from error
    if not isinstance(found, list) or not all(isinstance(part, list) and part for part in found):
        raise BadRequest(f'--filter: {text} is not a list of conditions, such as [["price", "<", 20]]')
    nested = [[tuple(condition) for condition in part] if isinstance(part[0], list) else tuple(part) for part in found]
    return nested


def show_run(result: RunResult, as_json: bool) -> None:
    """The tables and how long it took, or the evaluation object."""
    if as_json:
        show_json(result.evaluation)
    else:
        show_evaluation(result.evaluation, result.report)
        show_seconds(result.seconds)
