"""The command `shortlist import`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from serving.cli.options import AsJson
from serving.cli.show import show_json


def add_command(app: typer.Typer) -> None:
    """Adds the command to the application."""
    app.command("import")(import_export)


def import_export(
    sources: Annotated[list[Path], typer.Argument(help="The export: files, folders or zip archives.")],
    out: Annotated[Path, typer.Option("--out", help="The folder of the data set to write.")],
    reader: Annotated[
        str | None, typer.Option("--from", metavar="NAME", help="The source, such as shopify; by default found out.")
    ] = None,
    mapping: Annotated[
        str | None,
        typer.Option("--map", metavar="NAME=COLUMN,...", help="Which column is what, such as item_id=sku,title=name."),
    ] = None,
    query: Annotated[
        str | None,
        typer.Option("--query", metavar="SQL", help="A DuckDB query over the files, each a view of its name."),
    ] = None,
    table: Annotated[
        Literal["items", "events", "queries", "judgements"] | None,
        typer.Option(help="The table that --map or --query makes; by default what its columns make."),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the files that --out has.")] = False,
    day_first: Annotated[
        bool | None,
        typer.Option("--day-first/--month-first", help="How 03/04/2024 is meant; by default as other dates tell."),
    ] = None,
    encoding: Annotated[
        str | None, typer.Option(help="The encoding of text files, such as gb18030; by default found out.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Make a data set of a shop's export.

    Shopify, WooCommerce, Magento, Google Merchant, GA4 and others are known by their columns; other files are read by
    --map or --query. Shows what was understood and what was left out.
    """
    from indexing.bundle.atomic_files import writing_to
    from retrieval.importing.run import import_data

    with writing_to(out):
        report = import_data(
            sources,
            out,
            reader=reader,
            mapping=mapping,
            query=query,
            table=table,
            overwrite=overwrite,
            day_first=day_first,
            encoding=encoding,
        )
    if as_json:
        show_json(report.to_dict())
    else:
        print("\n".join(report.lines()))
