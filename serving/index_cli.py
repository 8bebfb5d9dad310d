"""`shortlist index ...`: what batch jobs call."""

from __future__ import annotations

import typer

from serving.options import Bundle, Data, Device, pipeline_of, quiet_libraries
from serving.show import show_seconds

index = typer.Typer(no_args_is_help=True, help="The vector index.")


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
