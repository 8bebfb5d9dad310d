"""`shortlist index ...`: what batch jobs call."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from serving.cli.options import AsJson, Bundle, Data, Device, MaxBad, pipeline_of, settings_of
from serving.cli.release import add_commands
from serving.cli.show import say, show_json, show_seconds, show_update
from serving.cli.tune_cli import tune

index = typer.Typer(no_args_is_help=True, help="The vector index.")
add_commands(index)
index.command()(tune)


@index.command()
def build(
    bundle: Bundle,
    data: Data,
    recall: Annotated[float | None, typer.Option(help="Recall@100 that the index must reach, as .95.")] = None,
    memory: Annotated[str | None, typer.Option(help="What the index may take, as 4GiB.")] = None,
    precision: Annotated[
        Literal["auto", "int8"] | None, typer.Option(help="int8: items' texts in whole numbers, a third more a second.")
    ] = None,
    device: Device = "auto",
    max_change: Annotated[float, typer.Option(help="Share of the live items that may come or go.")] = 0.3,
    max_bad: MaxBad = None,
    force: Annotated[bool, typer.Option("--force", help="Publish what a gate refuses; needs --why.")] = False,
    why: Annotated[str, typer.Option(help="Recorded in the release.")] = "",
    log: Annotated[Path | None, typer.Option(help="A file that JSON lines of what happens are added to.")] = None,
    as_json: AsJson = False,
) -> None:
    """Index the data set's items as they are now, with the live release's models; publish what passes the gates."""
    from indexing.bundle.bundle import Bundle as Releases
    from serving.jobs.build_index import IndexJob
    from serving.jobs.job_log import JobLog
    from serving.jobs.train_one import recorded_settings

    options = {"recall": recall, "memory": memory, "precision": precision, "max_bad": max_bad}
    with JobLog(log) as told:  # first, so that it hears of a bundle that cannot be opened
        base = recorded_settings(Releases.open(bundle))
        pipeline = pipeline_of(data, bundle, None, None, device=device, base=base, options=options)
        made = IndexJob(pipeline=pipeline, log=told, max_change=max_change, force=force, why=why).run()
    if as_json:
        show_json(made.to_dict())
    made.require_live()
    if not as_json:
        print(made.line())
        show_seconds(made.seconds)


@index.command()
def update(
    bundle: Bundle,
    upsert: Annotated[Path | None, typer.Option(help="Items, new or changed, as in items.parquet.")] = None,
    delete: Annotated[Path | None, typer.Option(help="Item ids: parquet of item_id, or text, one a line.")] = None,
    device: Device = "auto",
    max_bad: MaxBad = None,
    as_json: AsJson = False,
) -> None:
    """Change, add and remove items of the live index where it is; running engines answer from it within a second."""
    from indexing.bundle.bundle import Bundle as Releases
    from serving.jobs.train_one import recorded_settings
    from serving.jobs.update_index import Update

    releases = Releases.open(bundle)
    limits = settings_of(base=recorded_settings(releases), options={"max_bad": max_bad}).data
    found = Update(upsert=upsert, delete=delete, max_bad=limits.max_bad).apply(releases, device=device, say=say)
    show_json(found.to_dict()) if as_json else show_update(found)
