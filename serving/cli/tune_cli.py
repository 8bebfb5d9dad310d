"""`shortlist index tune`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from serving.cli.options import AsJson, Bundle, Device
from serving.cli.show import say, show_json


def tune(
    bundle: Bundle,
    data: Annotated[
        Path | None, typer.Option(help="A data set whose requests are measured with; the bundle's own without one.")
    ] = None,
    recall: Annotated[float, typer.Option(min=0.0, max=1.0, help="Recall@100 that is wanted.")] = 0.95,
    memory: Annotated[str | None, typer.Option(help="What the index may take, as 4GiB.")] = None,
    out: Annotated[Path | None, typer.Option(help="A drawing of it: a file of .svg, .png or .html.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Which vectors and requests are drawn.")] = 0,
    device: Device = "auto",
    as_json: AsJson = False,
) -> None:
    """Measure every kind of index over the live items, and what a build would take. Writes nothing."""
    from datetime import UTC, datetime

    from indexing.bundle.bundle import Bundle as Releases
    from serving.cli.options import settings_of
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
        hear=lambda stage, done, total: say(f"{stage}: {done:,} of {total:,}"),
    )
    show_json(found.to_dict()) if as_json else show_tuning(found)
    if out is not None:
        write_drawing(found, out)
