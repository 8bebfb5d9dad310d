"""`shortlist forget`: what a shopper may ask for."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from serving.cli.options import AsJson, Bundle
from serving.cli.show import show_json


def add_command(app: typer.Typer) -> None:
    """Adds the command to an app."""
    app.command()(forget)


def forget(
    bundle: Bundle,
    user: Annotated[str, typer.Argument(help="The id of the shopper.")],
    events: Annotated[
        str | None,
        typer.Option(metavar="STORE", help="Where events are kept: a file or a redis:// URL; by default the bundle."),
    ] = None,
    audit: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="An audit log that may know the shopper.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Remove a shopper from everything.

    Deletes the recorded events, publishes the live release anew without the shopper, and removes older releases that
    hold the shopper. Later releases leave out what the shopper did up to now, even if the data set still has it.
    """
    from indexing.bundle.bundle import Bundle as Releases
    from serving.answering.live.overlay import LiveShoppers
    from serving.audit.log import AuditLog
    from serving.live.events import now

    others = [] if audit is None else [AuditLog(audit)]
    found = LiveShoppers.of(Releases.open(bundle), events, *others).forget(user, now())
    if as_json:
        show_json({name: list(lines) for name, lines in found._asdict().items()})
    else:
        print("\n".join([*(f"removed: {line}" for line in found.removed), *(f"left: {line}" for line in found.left)]))
