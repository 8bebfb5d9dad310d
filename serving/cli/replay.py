"""`shortlist replay`: the requests of an audit log, asked again."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from serving.cli.options import AsJson, Bundle, Device
from serving.cli.show import show_json


def add_command(app: typer.Typer) -> None:
    """Adds the command to an app."""
    app.command()(replay)


def replay(
    log: Annotated[Path, typer.Argument(help="The folder of an audit log with inputs, or one of its files.")],
    bundle: Bundle,
    release: Annotated[str | None, typer.Option(help="A release of the bundle; by default the live one.")] = None,
    rules: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Merchandising rules; by default the bundle's rules.toml."),
    ] = None,
    check: Annotated[bool, typer.Option("--check", help="Compute the features again and say which differ.")] = False,
    device: Device = "auto",
    as_json: AsJson = False,
) -> None:
    """Ask the requests of an audit log again, and say what changes and by how much.

    The log is what Engine.open(..., audit=AuditLog(FOLDER, inputs=True)) kept. Ask another release before it goes live,
    or under other rules; with --check the same release, to find features that are computed otherwise than they were.
    """
    from indexing.bundle.bundle import Bundle as Releases
    from retrieval.encoders.runtime import RuntimeOptions
    from serving.answering.release_state import ReleaseState
    from serving.audit.records import read_records
    from serving.audit.replay import replay as asked_again
    from serving.cli.show_replay import show_replay
    from serving.rules.load import read_rules
    from serving.rules.watch import RULES_FILE

    opened, options = Releases.open(bundle), RuntimeOptions(device=device)
    state = (
        ReleaseState.live(opened, options)
        if release is None
        else ReleaseState.of_release(opened, opened.release(release), options)
    )
    file = bundle / RULES_FILE if rules is None else rules
    in_force = read_rules(file) if rules is not None or file.exists() else None
    found = asked_again(state, read_records(log), rules=in_force, check=check)
    if as_json:
        show_json(asdict(found))
    else:
        show_replay(found, state)
