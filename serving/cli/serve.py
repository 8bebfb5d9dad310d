"""`shortlist serve`: a bundle behind HTTP."""

from __future__ import annotations

from typing import Annotated

import typer

from retrieval.errors import BadConfig
from serving.cli.keys import KeysFile, keys_file
from serving.cli.options import Bundle, Device
from serving.cli.show import say

PORT = 8000


def add_command(app: typer.Typer) -> None:
    """Add `serve` to `shortlist`."""
    app.command()(serve)


def serve(
    bundle: Bundle,
    host: Annotated[str, typer.Option(help="The address to listen on; by default this machine alone.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65_535, help="The port; 0: any that is free.")] = PORT,
    workers: Annotated[int, typer.Option(min=1, max=256, help="How many processes answer.")] = 1,
    insecure: Annotated[
        bool, typer.Option("--insecure", help="Listen beyond this machine though there are no API keys.")
    ] = False,
    events: Annotated[
        str | None,
        typer.Option("--events", metavar="STORE", help="Where events are kept: a file, or a redis:// URL."),
    ] = None,
    device: Device = "auto",
    keys: KeysFile = None,
) -> None:
    """Serve a bundle over HTTP, with a page at /.

    Without keys it listens on this machine alone; `shortlist keys add` makes one.
    """
    path = keys_file(bundle, keys)
    from serving.http.keys import KeyFile
    from serving.http.options import is_loopback
    from serving.http.server import Served, listen
    from serving.http.server import serve as run_server

    known = KeyFile(path)
    if not known.count and not insecure and not is_loopback(host):
        make = f"shortlist keys add {bundle} --name shop --scope read" + (f" --keys {keys}" if keys else "")
        raise BadConfig(
            f"{host} can be reached from other machines, and {path} has no API keys; run: {make}, or give --insecure"
        )
    with listen(host, port) as bound:
        name, port = bound.getsockname()[:2]
        address = f"http://{f'[{name}]' if ':' in name else name}:{port}"
        served = Served(path=bundle, device=device, events=events, keys=known, only_local=not insecure)
        code = run_server(
            served, bound, workers=workers, ready=lambda: say(f"serving {bundle} at {address} (Ctrl-C ends it)")
        )
    if code:
        raise typer.Exit(code)
