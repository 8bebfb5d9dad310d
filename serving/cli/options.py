"""The options that commands share, and the pipeline that they ask for; nothing heavy is imported before its use."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, TypeAlias

import typer

from retrieval.errors import BadRequest
from serving.cli.show import say, show_version

if TYPE_CHECKING:
    from serving.jobs.run import Pipeline
    from serving.settings import RunSettings

NUMBER = re.compile(r"-?(0|[1-9]\d*)(\.\d+)?", re.ASCII)
Bundle: TypeAlias = Annotated[Path, typer.Argument(help="The bundle, a folder written by `shortlist run`.")]
NewBundle: TypeAlias = Annotated[Path, typer.Argument(help="The bundle to write to; created if it does not exist.")]
DataArgument: TypeAlias = Annotated[Path, typer.Argument(help="The data set, a folder with items.parquet.")]
Data: TypeAlias = Annotated[Path, typer.Option("--data", help="The data set, a folder with items.parquet.")]
ConfigFile: TypeAlias = Annotated[Path | None, typer.Option("--config", help="A TOML file of settings.")]
Changes: TypeAlias = Annotated[
    list[str] | None, typer.Option("--set", metavar="GROUP.NAME=VALUE", help="Change a setting; may be repeated.")
]
BudgetName: TypeAlias = Literal["quick", "default", "long"]
BudgetOption: TypeAlias = Annotated[BudgetName, typer.Option(help="How long to train.")]
Sample: TypeAlias = Annotated[
    int | None, typer.Option("--rerank-sample", help="How many requests to rerank in the evaluation; 0: all.")
]
Device: TypeAlias = Annotated[Literal["auto", "cpu", "cuda"], typer.Option(help="Where the models run.")]
MaxBad: TypeAlias = Annotated[
    float | None, typer.Option("--max-bad", help="Largest share of bad rows in a file, such as 0.01.")
]
MaxUnknown: TypeAlias = Annotated[
    float | None, typer.Option("--max-unknown", help="Largest share of events of unknown items, such as 0.1.")
]
EventsFrom: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--events-from",
        metavar="STORE",
        help="Recorded events to read beside the data set: a bundle, a file, or a redis:// URL.",
    ),
]
ReadLanguage: TypeAlias = Annotated[
    Literal["en", "zh"] | None, typer.Option("--language", help="The language of the report and the tables: en or zh.")
]
AnswerLanguage: TypeAlias = Annotated[
    Literal["en", "zh"] | None,
    typer.Option("--language", help="The language of notes and explanations; with --json they are added in it."),
]
ShopLanguage: TypeAlias = Annotated[
    Literal["en", "zh"], typer.Option("--language", help="The language of the generated shop: English or Chinese.")
]
Debug: TypeAlias = Annotated[bool, typer.Option("--debug", help="Show tracebacks and the warnings of libraries.")]
Version: TypeAlias = Annotated[
    bool, typer.Option("--version", callback=show_version, is_eager=True, help="Show the version and exit.")
]
AsJson: TypeAlias = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
K: TypeAlias = Annotated[int, typer.Option("--k", "-k", help="How many items to return.")]
Filter: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(
        "--filter",
        metavar="TEXT",
        help="Return only items that pass, such as 'price < 20 and brand in (Acme, \"Big Co\")'; may be repeated.",
    ),
]
User: TypeAlias = Annotated[str | None, typer.Option("--user", help="The id of a shopper in the data set.")]
History: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--history",
        metavar="ITEM,ITEM",
        help='A shopper\'s items, oldest first; as a JSON list also events: \'["i1", ["i2", "view", null]]\'.',
    ),
]
NoRerank: TypeAlias = Annotated[bool, typer.Option("--no-rerank", help="Do not run the cross-encoder.")]
DeadlineMs: TypeAlias = Annotated[
    float | None, typer.Option("--deadline-ms", help="Milliseconds for the answer; reranking is cut to fit.")
]
Explain: TypeAlias = Annotated[bool, typer.Option("--explain", help="Say why each item stands where it does.")]
ExplainFully: TypeAlias = Annotated[
    bool,
    typer.Option(
        "--explain-fully",
        help="The same, with what each event and word changes for the cross-encoder, which reads every hit again.",
    ),
]
Diversity: TypeAlias = Annotated[
    float, typer.Option("--diversity", help="How much relevance to give up for unlike items: 0 none, 1 all.")
]
AllVariants: TypeAlias = Annotated[
    bool, typer.Option("--all-variants", help="Show every variant of a product, not the best of each alone.")
]
NoSpellcheck: TypeAlias = Annotated[bool, typer.Option("--no-spellcheck", help="Search for the query as typed.")]
FilterSeen: TypeAlias = Annotated[
    bool | None,
    typer.Option(
        "--filter-seen/--keep-seen",
        help="Leave out, or keep, items that the shopper already took; by default as the release was built.",
    ),
]

Page: TypeAlias = Annotated[
    str | None, typer.Option("--page", help="Where the answer is shown; merchandising rules may be for some pages.")
]
AudienceOption: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(
        "--audience",
        metavar="NAME=VALUE",
        help="What rules may know of the shopper, such as country=DE or member=true; may be repeated.",
    ),
]

Limits: TypeAlias = Mapping[str, float | str | None]
OPTIONS = {
    "max_bad": "data.max_bad",
    "max_unknown": "data.max_unknown",
    "rerank_sample": "evaluation.rerank_sample",
    "language": "evaluation.language",
    "recall": "index.recall",
    "memory": "index.memory",
    "precision": "retrieval.precision",
}  # settings that have an option of their own


def audience_of(pairs: list[str] | None) -> dict[str, object] | None:
    """What is known of a shopper out of NAME=VALUE; a name that is given again has a list of values. Raises BadRequest
    for what has no name.

    >>> audience_of(["country=DE", "member=true", "segment=a", "segment=b"])
    {'country': 'DE', 'member': True, 'segment': ['a', 'b']}
    """
    found: dict[str, list[object]] = {}
    for pair in pairs or ():
        name, equals, value = pair.partition("=")
        if not name or not equals:
            raise BadRequest(f"--audience {pair}: write it as NAME=VALUE, such as country=DE")
        plain = value in ("true", "false") or NUMBER.fullmatch(value)
        found.setdefault(name, []).append(json.loads(value) if plain else value)
    return {name: values[0] if len(values) == 1 else values for name, values in found.items()} if pairs else None


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
    events_from: str | None = None,
) -> Pipeline:
    """A pipeline with the settings of a command line; it reports progress on stderr."""
    from serving.jobs.run import Pipeline

    settings = settings_of(config, changes, base=base, options=options)
    return Pipeline(data, bundle, settings, budget, device, say=say, events_from=events_from)


def settings_of(
    config: Path | None = None,
    changes: list[str] | None = None,
    *,
    base: Mapping[str, object] | None = None,
    options: Limits | None = None,
) -> RunSettings:
    """The defaults or a release's settings, changed by a file, then by --set, then by options."""
    from serving.settings import read_settings

    lines = [f"{OPTIONS[name]}={value}" for name, value in (options or {}).items() if value is not None]
    return read_settings(config, [*(changes or []), *lines], base=base)


def quiet_libraries() -> AbstractContextManager[None]:
    """Keeps the notes of the training libraries off the screen; imports them."""
    from retrieval.encoders.quiet import quiet_libraries as quiet

    return quiet()
