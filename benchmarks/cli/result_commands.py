"""`shortlist bench compare` and `tables`: results compared with one another, and written into documents."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from benchmarks.cli.group import Quick, Seed, bench
from serving.cli.options import AsJson, Device


@bench.command()
def compare(
    before: Annotated[Path, typer.Argument(help="A file of results, or a bundle.")],
    after: Annotated[Path, typer.Argument(help="Another file of results, or another bundle.")],
    threshold: Annotated[
        float, typer.Option(min=0.0, help="Loss above which the command ends with exit code 3; 0.05 is 5 %.")
    ] = 0.05,
    seconds: Annotated[
        float | None, typer.Option(min=0.0, help="Time for each kind of call of two bundles.  [default: 20]")
    ] = None,
    seed: Seed = 0,
    quick: Quick = False,
    device: Device = "auto",
    as_json: AsJson = False,
) -> None:
    """Changes beyond noise between two files of results, or between two bundles, whose latency is measured in turn."""
    from benchmarks.changes import compared, worse_than
    from benchmarks.latency.run import compared_bundles
    from benchmarks.result_lines import read
    from benchmarks.terminal import changes_table
    from retrieval.errors import Regressed
    from serving.cli.show import console, show_json

    if before.is_dir() and after.is_dir():
        spent = seconds if seconds is not None else 6.0 if quick else 20.0
        found = compared_bundles(before, after, device=device, seed=seed, seconds=spent)
    else:
        found = compared(read(before), read(after))
    if as_json:
        show_json({"changes": [one.as_json() for one in found]})
    else:
        console().print(changes_table(found))
    if lost := worse_than(found, threshold):
        named = "; ".join(f"{', '.join(one.labels.values())} {one.beyond - 1:+.0%}" for one in lost)
        raise Regressed(f"{after} is worse than {before}: {named}; to allow it: --threshold SHARE")


@bench.command()
def tables(document: Annotated[Path, typer.Argument(help="A text with markers, such as docs/measured.md.")]) -> None:
    """Write the tables between a document's markers anew, from the results in benchmarks/results."""
    from benchmarks.reporting.markdown_tables import with_tables
    from retrieval.errors import BadData
    from serving.internals import write_whole

    try:
        text = document.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise BadData(f"{document}: cannot be read ({error}); give a text file") from error
    write_whole(with_tables(text), document)
