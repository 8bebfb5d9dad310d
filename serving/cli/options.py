"""The options that commands share, and the pipeline that they ask for; nothing heavy is imported before its use."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, TypeAlias

import typer

from serving.cli.show import say

if TYPE_CHECKING:
    from serving.jobs.run import Pipeline
    from serving.settings import RunConfig

Bundle: TypeAlias = Annotated[Path, typer.Argument(help="The bundle, a folder that `shortlist run` wrote.")]
DataArgument: TypeAlias = Annotated[Path, typer.Argument(help="A folder with items.parquet and the like.")]
Data: TypeAlias = Annotated[Path, typer.Option("--data", help="A folder with items.parquet and the like.")]
NewBundle: TypeAlias = Annotated[Path, typer.Argument(help="The bundle to write to; created if it does not exist.")]
ConfigFile: TypeAlias = Annotated[Path | None, typer.Option("--config", help="A TOML file of settings.")]
Changes: TypeAlias = Annotated[
    list[str] | None, typer.Option("--set", metavar="ROOM.NAME=VALUE", help="One setting; may be repeated.")
]
BudgetName: TypeAlias = Literal["quick", "default", "long"]
BudgetOption: TypeAlias = Annotated[BudgetName, typer.Option(help="How much training.")]
Sample: TypeAlias = Annotated[
    int | None, typer.Option("--rerank-sample", help="Requests that reranking is measured on; 0: all.")
]
Device: TypeAlias = Annotated[Literal["auto", "cpu", "cuda"], typer.Option(help="Where models run.")]
MaxBad: TypeAlias = Annotated[
    float | None, typer.Option("--max-bad", help="Share of a file's rows that may be bad; 0.01 is 1 %.")
]
MaxUnknown: TypeAlias = Annotated[
    float | None, typer.Option("--max-unknown", help="Share of events that may name unknown items.")
]
Debug: TypeAlias = Annotated[bool, typer.Option("--debug", help="Show tracebacks and libraries' warnings.")]
AsJson: TypeAlias = Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")]
K: TypeAlias = Annotated[int, typer.Option("--k", "-k", help="How many items to return.")]
Filter: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(
        "--filter",
        metavar="TEXT",
        help='Answer only such items: \'price < 20 and brand in (Acme, "Big Co")\'. Several are joined by "and".',
    ),
]
User: TypeAlias = Annotated[str | None, typer.Option("--user", help="The id of a shopper of the data set.")]
History: TypeAlias = Annotated[
    str | None,
    typer.Option("--history", metavar="ITEM,ITEM", help="Item ids, oldest first."),
]
NoRerank: TypeAlias = Annotated[bool, typer.Option("--no-rerank", help="Leave the order as retrieved.")]
DeadlineMs: TypeAlias = Annotated[
    float | None, typer.Option("--deadline-ms", help="Milliseconds for the answer; what does not fit is not reranked.")
]
NoSpellcheck: TypeAlias = Annotated[bool, typer.Option("--no-spellcheck", help="Search for the query as typed.")]
FilterSeen: TypeAlias = Annotated[
    bool | None,
    typer.Option(
        "--filter-seen/--keep-seen",
        help="Leave out what the shopper already took, or keep it; the release has a default.",
    ),
]

Limits: TypeAlias = Mapping[str, float | str | None]
OPTIONS = {
    "max_bad": "data.max_bad",
    "max_unknown": "data.max_unknown",
    "rerank_sample": "evaluation.rerank_sample",
    "recall": "index.recall",
    "memory": "index.memory",
    "precision": "retrieval.precision",
}  # settings with an option of their own


def pipeline_of(
    bundle: Path,
    data: Path,
    config: Path | None,
    changes: list[str] | None,
    *,
    budget: BudgetName = "default",
    device: str = "auto",
    base: Mapping[str, object] | None = None,
    options: Limits | None = None,
) -> Pipeline:
    """A pipeline that tells its progress on stderr, under the settings that a command was given."""
    from serving.jobs.run import Pipeline

    return Pipeline(data, bundle, settings_of(config, changes, base=base, options=options), budget, device, say=say)


def settings_of(
    config: Path | None = None,
    changes: list[str] | None = None,
    *,
    base: Mapping[str, object] | None = None,
    options: Limits | None = None,
) -> RunConfig:
    """Defaults or the settings of a release, changed by a file, by --set, and by what has an option of its own."""
    from serving.settings import read_settings

    said = [f"{OPTIONS[name]}={value}" for name, value in (options or {}).items() if value is not None]
    return read_settings(config, [*(changes or []), *said], base=base)


def quiet_libraries() -> AbstractContextManager[None]:
    """Keeps the notes of the training libraries off the screen; imports them."""
    from retrieval.encoders.quiet import quiet_libraries as quiet

    return quiet()
