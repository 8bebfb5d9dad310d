"""`shortlist rules ...`: check a file of merchandising rules, and try it on a request."""

from __future__ import annotations

from dataclasses import replace
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from retrieval.errors import BadConfig
from serving.cli.ask import filters_of, item_ids
from serving.cli.options import (
    AsJson,
    AudienceOption,
    Bundle,
    Device,
    Diversity,
    Filter,
    FilterSeen,
    History,
    K,
    NoRerank,
    Page,
    User,
    audience_of,
)
from serving.cli.show import console, show_json

if TYPE_CHECKING:
    from serving.request import Answer, Hit
    from serving.rules.checked import CheckedRules

File = Annotated[
    Path | None, typer.Option("--rules", metavar="FILE", help="The rules; by default rules.toml in the bundle.")
]

rules = typer.Typer(no_args_is_help=True, help="Check and try merchandising rules.")


@rules.command()
def check(
    path: Annotated[Path, typer.Argument(help="A bundle, or a file of rules alone.")],
    file: File = None,
    as_json: AsJson = False,
) -> None:
    """Check rules: every fault with its line.

    Over a bundle also columns and values that its items do not have, rules that contradict each other, and how many
    items each rule is about. Ends with exit code 2 where there is a fault or a contradiction.
    """
    found = _checked(path, file)
    told = found.lines(found.contradictions)
    if as_json:
        show_json(found.to_dict())
    else:
        show_checked(found)
    if told:
        counted = "1 contradiction" if len(told) == 1 else f"{len(told)} contradictions"
        raise BadConfig(f"{found.source}: {counted}; correct what is named above")


@rules.command("try")
def try_rules(
    bundle: Bundle,
    file: File = None,
    query: Annotated[str | None, typer.Option("--query", help="Search for this; else recommend.")] = None,
    user: User = None,
    history: History = None,
    k: K = 10,
    filter_: Filter = None,
    filter_seen: FilterSeen = None,
    no_rerank: NoRerank = False,
    diversity: Diversity = 0.0,
    page: Page = None,
    audience: AudienceOption = None,
    device: Device = "auto",
    as_json: AsJson = False,
) -> None:
    """Answer a request under other rules beside what is answered now.

    With --rules it is answered under that file and under the rules of the bundle, else under those and without any.
    """
    from indexing.bundle.bundle import Bundle as Releases
    from retrieval.encoders.runtime import RuntimeOptions
    from serving.answering.pipeline import answer
    from serving.answering.release_state import ReleaseState
    from serving.request import Request
    from serving.rules.compiled import CompiledRules
    from serving.rules.load import read_rules
    from serving.rules.watch import RULES_FILE

    request = Request(
        query=query, user_id=user, history=item_ids(history), k=k, filters=filters_of(filter_), filter_seen=filter_seen,
        rerank=not no_rerank, diversity=diversity, page=page, audience=audience_of(audience),
    )  # fmt: skip
    own = bundle / RULES_FILE
    files = [None, own] if file is None else [own if own.exists() else None, file]
    read = [None if one is None else read_rules(one) for one in files]
    state = ReleaseState.live(Releases.open(bundle), RuntimeOptions(device=device))
    before, after = (
        answer(
            state if one is None else replace(state, rules=CompiledRules.of(one, state.version, state.analyzer)),
            request,
        )
        for one in read
    )
    if as_json:
        show_json({"before": before.to_dict(), "after": after.to_dict()})
    else:
        show_both(before, after)


def show_checked(found: CheckedRules) -> None:
    """The rules with how many items each is about, then what is wrong."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table(title=f"{found.source}, version {found.version}", box=SIMPLE_HEAD, title_justify="left")
    for name in ("rule", "kind", "items"):
        table.add_column(name, justify="right" if name == "items" else "left")
    for name, kind, items in found.rows:
        table.add_row(name, kind, "" if items is None else f"{items:,}")
    out = console()
    out.print(table)
    for heading, faults in (("contradiction", found.contradictions), ("warning", found.warnings)):
        for line in found.lines(faults):
            out.print(f"{heading}: {line}", soft_wrap=True)


def show_both(before: Answer, after: Answer) -> None:
    """Two answers side by side: where each item stood before, and the rules that moved or placed it."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    title = f"rules {before.rules or 'none'} beside {after.rules or 'none'}"
    table = Table(title=title, box=SIMPLE_HEAD, padding=(0, 1, 0, 0), title_justify="left")
    for name in ("", "before", "after", "moved", "rules"):
        table.add_column(name, justify="right" if name in ("", "moved") else "left", overflow="ellipsis")
    places = {hit.item_id: place for place, hit in enumerate(before.items, 1)}
    for place, (old, new) in enumerate(zip_longest(before.items, after.items), 1):
        moved = "" if new is None else _moved(places.get(new.item_id), place)
        table.add_row(str(place), _named(old), _named(new), moved, ", ".join(new.rules) if new is not None else "")
    out = console()
    out.print(table)
    gone = [hit.item_id for hit in before.items if hit.item_id not in {new.item_id for new in after.items}]
    out.print(f"no longer among the first {len(after.items)}: {', '.join(gone) or 'none'}", soft_wrap=True)


def _named(hit: Hit | None) -> str:
    return "" if hit is None else f"{hit.item_id} {hit.title}"


def _moved(before: int | None, place: int) -> str:
    if before is None:
        return "new"
    return f"{before - place:+d}" if before != place else ""


def _checked(path: Path, file: Path | None) -> CheckedRules:
    from indexing.bundle.bundle import Bundle as Releases
    from indexing.version.index_version import IndexVersion
    from retrieval.text.analysis import Analyzer
    from serving.answering.release_settings import ReleaseSettings
    from serving.rules.checked import check_rules
    from serving.rules.watch import RULES_FILE

    if not path.is_dir():
        return check_rules(path, None, Analyzer())
    releases = Releases.open(path)
    release = releases.current()
    version = IndexVersion.open(releases.path_of("index", release.index), device="cpu").updated()
    return check_rules(file or path / RULES_FILE, version, ReleaseSettings.of(release).analyzer)
