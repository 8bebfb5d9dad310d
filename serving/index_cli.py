"""`shortlist index ...`: what batch jobs call."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from serving.options import AsJson, Bundle, Data, Device, MaxBad, pipeline_of, quiet_libraries, settings_of
from serving.release_cli import add_commands
from serving.show import say, show_json, show_seconds, show_update

index = typer.Typer(no_args_is_help=True, help="The vector index.")
add_commands(index)


@index.command()
def build(bundle: Bundle, data: Data, device: Device = "auto") -> None:
    """Index the data set's items as they are now, with the live release's models; publish."""
    from indexing.store import Bundle as Releases
    from serving.jobs import build_index, recorded_settings

    pipeline = pipeline_of(data, bundle, None, None, device=device, base=recorded_settings(Releases.open(bundle)))
    with quiet_libraries():
        release = build_index(pipeline)
    print(f"release {release.id} of {bundle} is live")
    show_seconds(pipeline.seconds)


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
    from indexing.store import Bundle as Releases
    from serving.jobs import recorded_settings
    from serving.updates import Update

    releases = Releases.open(bundle)
    limits = settings_of(base=recorded_settings(releases), options={"max_bad": max_bad}).data
    found = Update(upsert=upsert, delete=delete, max_bad=limits.max_bad).apply(releases, device=device, say=say)
    show_json(found.to_dict()) if as_json else show_update(found)
