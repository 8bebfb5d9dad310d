"""`shortlist index ...`: what batch jobs call."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from serving.cli.options import AsJson, Bundle, Data, Device, EventsFrom, MaxBad, pipeline_of, settings_of
from serving.cli.show import say, show_json, show_seconds, show_update

index = typer.Typer(no_args_is_help=True, help="Build, update, inspect, tune and export the index.")


@index.command()
def build(
    bundle: Bundle,
    data: Data,
    events_from: EventsFrom = None,
    recall: Annotated[float | None, typer.Option(help="Recall@100 that the index must reach, such as 0.95.")] = None,
    memory: Annotated[str | None, typer.Option(help="Memory that the index may take, such as 4GiB.")] = None,
    precision: Annotated[
        Literal["auto", "int8"] | None, typer.Option(help="int8: embed the items in 8 bits, a third faster.")
    ] = None,
    device: Device = "auto",
    max_change: Annotated[float, typer.Option(help="Largest share of the live items that may come or go.")] = 0.3,
    max_bad: MaxBad = None,
    force: Annotated[bool, typer.Option("--force", help="Publish although a gate refuses; needs --why.")] = False,
    why: Annotated[str, typer.Option(help="The reason, recorded in the release.")] = "",
    log: Annotated[Path | None, typer.Option(help="A file to append progress to, as JSON lines.")] = None,
    as_json: AsJson = False,
) -> None:
    """Build a new index with the live models.

    Reads the data set as it is now, embeds what is new or changed, and publishes a release if it passes the gates.
    Ends with exit code 3, the live release unchanged, if a gate refuses.
    """
    from indexing.bundle.bundle import Bundle as Releases
    from serving.jobs.build_index import IndexJob
    from serving.jobs.job_log import JobLog
    from serving.jobs.train_one import recorded_settings

    options = {"recall": recall, "memory": memory, "precision": precision, "max_bad": max_bad}
    with JobLog(log) as job_log:  # first, so that it records a bundle that cannot be opened
        base = recorded_settings(Releases.open(bundle))
        pipeline = pipeline_of(
            bundle, data, None, None, device=device, base=base, options=options, events_from=events_from
        )
        made = IndexJob(pipeline=pipeline, log=job_log, max_change=max_change, force=force, why=why).run()
    if as_json:
        show_json(made.to_dict())
    made.require_live()
    if not as_json:
        print(made.line())
        show_seconds(made.seconds)


@index.command()
def update(
    bundle: Bundle,
    upsert: Annotated[
        Path | None, typer.Option(help="A parquet file of new and changed items, with the columns of items.parquet.")
    ] = None,
    delete: Annotated[
        Path | None,
        typer.Option(help="Ids of items to delete: a parquet or CSV file of item_id, or a text file of an id a line."),
    ] = None,
    patch: Annotated[
        Path | None,
        typer.Option(help="A parquet or CSV file of item_id and columns to change, such as price; the rest stays."),
    ] = None,
    device: Device = "auto",
    max_bad: MaxBad = None,
    as_json: AsJson = False,
) -> None:
    """Add, change and delete items of the live index.

    Running engines answer from the updated index within a second.
    """
    from indexing.bundle.bundle import Bundle as Releases
    from serving.jobs.train_one import recorded_settings
    from serving.jobs.update_index import Update

    releases = Releases.open(bundle)
    limits = settings_of(base=recorded_settings(releases), options={"max_bad": max_bad}).data
    files = Update(upsert=upsert, delete=delete, patch=patch, max_bad=limits.max_bad)
    found = files.apply(releases, device=device, say=say)
    show_json(found.to_dict()) if as_json else show_update(found)


@index.command()
def status(bundle: Bundle, as_json: AsJson = False) -> None:
    """Show the live release and its updates.

    Also which process is writing, and the space on disk.
    """
    from indexing.bundle.bundle import Bundle as Releases
    from serving.cli.show_bundle import status_lines
    from serving.jobs.bundle_status import status as status_of

    found = status_of(Releases.open(bundle))
    show_json(found.to_dict()) if as_json else print("\n".join(status_lines(found)))


@index.command()
def tune(
    bundle: Bundle,
    data: Annotated[
        Path | None, typer.Option(help="A data set to take requests from; by default those kept in the bundle.")
    ] = None,
    recall: Annotated[float, typer.Option(min=0.0, max=1.0, help="The recall@100 to reach.")] = 0.95,
    memory: Annotated[str | None, typer.Option(help="Memory that the index may take, such as 4GiB.")] = None,
    out: Annotated[Path | None, typer.Option(help="Draw recall against speed to a .svg, .png or .html file.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="The random seed of the sample.")] = 0,
    device: Device = "auto",
    as_json: AsJson = False,
) -> None:
    """Measure which kind of index suits the items.

    Builds and times every kind over the live items, and tells which one `shortlist index build` would choose. The
    bundle is not changed.
    """
    from datetime import UTC, datetime

    from indexing.bundle.bundle import Bundle as Releases
    from serving.cli.show_tuning import require_format, show_tuning, write_drawing
    from serving.jobs.train_one import recorded_settings
    from serving.jobs.tune_index import tune_bundle
    from serving.shop import Shop

    require_format(out)
    allowed = settings_of(options={"memory": memory}).index.memory
    releases, shop = Releases.open(bundle), None
    if data is not None:
        limits = settings_of(base=recorded_settings(releases)).data
        shop = Shop.open(data, limits, now=datetime.now(UTC), catalogue_alone=True)
    found = tune_bundle(
        releases,
        shop=shop,
        target=recall,
        memory=allowed,
        device=device,
        seed=seed,
        progress=lambda stage, done, total: say(f"{stage}: {done:,} of {total:,}"),
    )
    show_json(found.to_dict()) if as_json else show_tuning(found)
    if out is not None:
        write_drawing(found, out)


@index.command()
def export(
    bundle: Bundle,
    out: Annotated[Path, typer.Option("--out", help="The parquet file to write.")],
    attributes: Annotated[bool, typer.Option("--attributes", help="Also the attributes of the items.")] = False,
    as_json: AsJson = False,
) -> None:
    """Write the item vectors to a parquet file.

    Exports ids and vectors of the live index, with its updates, for any vector database.
    """
    from indexing.bundle.bundle import Bundle as Releases
    from indexing.version.export import export_version
    from indexing.version.index_version import IndexVersion

    releases = Releases.open(bundle)
    live = releases.current()
    version = IndexVersion.open(releases.path_of("index", live.index), device="cpu").updated()
    found = export_version(version, out, release=live.id, attributes=attributes)
    if as_json:
        show_json(found._asdict() | {"release": live.id, "index_revision": version.revision})
    else:
        print(f"{found.path}: {found.items:,} items of release {live.id}, vectors of {found.dim} numbers")
