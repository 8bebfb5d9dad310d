"""What the commands of `shortlist bench` share: their group, and options that several have."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, TypeAlias

import typer
from typer.core import TyperGroup

from serving.cli.command_group import ended_by


class BenchGroup(TyperGroup):
    """The commands of this room; an error ends them as it ends every other command, however they were started."""

    def invoke(self, ctx: Any) -> Any:
        """Runs the command; an error becomes one line on stderr and an exit code."""
        try:
            return super().invoke(ctx)
        except BaseException as error:
            ended_by(error, debug=bool(ctx.find_root().params.get("debug")))


bench = typer.Typer(
    cls=BenchGroup,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="Measure latency, recall, throughput and peers; compare and report.",
)

Quick: TypeAlias = Annotated[bool, typer.Option("--quick", help="Little of everything: less than a minute.")]
Results: TypeAlias = Annotated[
    Path | None, typer.Option("--out", help="A file of results, one JSON object a line; it is added to.")
]
Seed: TypeAlias = Annotated[int, typer.Option(min=0, help="Which shoppers, items and queries are drawn.")]
Threads: TypeAlias = Annotated[
    int | None, typer.Option(min=1, help="Cores that the process may use; all where not given.")
]
