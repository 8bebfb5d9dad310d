"""The group of the commands `shortlist bench`, and the options that several of them share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, TypeAlias

import typer
from typer.core import TyperGroup

from serving.cli.command_group import ended_by


class BenchGroup(TyperGroup):
    """The commands of `shortlist bench`, whose errors end like those of every other command of `shortlist`."""

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
    help="Measure latency, quality, throughput and other libraries; compare results.",
)

OptionalBundle: TypeAlias = Annotated[
    Path | None, typer.Argument(help="A bundle made of the data; without one, everything else is measured alone.")
]
Quick: TypeAlias = Annotated[bool, typer.Option("--quick", help="A fast trial: few samples, less than a minute.")]
Results: TypeAlias = Annotated[
    Path | None, typer.Option("--out", help="A file of results that lines are appended to, one JSON object each.")
]
Seed: TypeAlias = Annotated[int, typer.Option(min=0, help="Seed of the random sample of users, items and queries.")]
Threads: TypeAlias = Annotated[int | None, typer.Option(min=1, help="Cores that the process may use.  [default: all]")]
