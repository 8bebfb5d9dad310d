"""`shortlist keys ...`: API keys of the server."""

from __future__ import annotations

from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated, TypeAlias

import typer

from retrieval.extras import require_extra
from serving.cli.options import AsJson, Bundle
from serving.cli.show import console, say, show_json

KeysFile: TypeAlias = Annotated[
    Path | None, typer.Option("--keys", metavar="FILE", help="The file of keys; by default keys.json in the bundle.")
]


class ScopeName(StrEnum):
    """What a key opens, as `serving.http.access.Scope`: typer reads lists of enumerations alone."""

    READ = "read"
    WRITE = "write"
    ADMIN = "admin"


keys = typer.Typer(no_args_is_help=True, help="Make, list and revoke API keys of the server.")


@keys.command()
def add(
    bundle: Bundle,
    name: Annotated[str, typer.Option(help="Whose key it is, such as shop.")],
    scope: Annotated[
        list[ScopeName],
        typer.Option(
            help="What it opens: read answers, write events and items, admin releases and shoppers; may be repeated."
        ),
    ],
    file: KeysFile = None,
    as_json: AsJson = False,
) -> None:
    """Make a key, and show it once.

    Only its hash is kept. A running server knows it from its next request on.
    """
    from serving.http.keys import add_key

    path = keys_file(bundle, file)
    key, stored = add_key(path, name, [one.value for one in scope], now=lambda: datetime.now(UTC))
    if as_json:
        show_json({"key": key, "id": stored.id, "name": name, "scopes": list(stored.scopes)})
        return
    print(key)
    say(f"the key {name} ({', '.join(stored.scopes)}) is not shown again; {path} has its hash")


@keys.command("list")
def list_keys(bundle: Bundle, file: KeysFile = None, as_json: AsJson = False) -> None:
    """List keys: names, scopes and when each was made."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    from serving.http.keys import read_keys

    found = read_keys(keys_file(bundle, file))
    if as_json:
        show_json({"keys": [key.model_dump(exclude={"sha256"}) for key in found]})
        return
    table = Table(box=SIMPLE_HEAD)
    for column in ("id", "name", "scopes", "created"):
        table.add_column(column)
    for key in found:
        table.add_row(key.id, key.name, ", ".join(key.scopes), key.created)
    console().print(table)


@keys.command()
def revoke(
    bundle: Bundle,
    key: Annotated[str, typer.Argument(help="The name of the key, or its id.")],
    file: KeysFile = None,
    as_json: AsJson = False,
) -> None:
    """Revoke a key: a running server refuses it from its next request on."""
    from serving.http.keys import revoke_key

    gone = revoke_key(keys_file(bundle, file), key)
    if as_json:
        show_json({"revoked": gone.name, "id": gone.id})
    else:
        print(f"revoked {gone.name} ({gone.id})")


def keys_file(bundle: Path, file: Path | None) -> Path:
    """The file of a bundle's keys, or the one that is given. Raises BadBundle for what is no bundle, and
    MissingDependency where the server is not installed."""
    from indexing.bundle.bundle import Bundle as Releases

    require_extra("serve", "the server")
    from serving.http.keys import KEYS_FILE

    return file or Releases.open(bundle).path / KEYS_FILE
