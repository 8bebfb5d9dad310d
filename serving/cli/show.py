"""Answers, evaluations and updates as text in a terminal."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

    from indexing.bundle.releases import Release
    from serving.evaluation.figures import Json
    from serving.jobs.update_index import Updated
    from serving.request import Answer

REASONS = 3  # contributions that are shown of an item
PLAIN_WIDTH = 120  # columns where stdout is no terminal


def console() -> Console:
    """Stdout; of a fixed width where it is a file or a pipe."""
    from rich.console import Console

    return Console(width=None if sys.stdout.isatty() else PLAIN_WIDTH, highlight=False, markup=False)


def show_version(wanted: bool) -> None:
    """The version, where it is asked for; the command ends with it."""
    if wanted:
        import typer

        import serving

        print(f"shortlist {serving.__version__}")
        raise typer.Exit


def say(line: str) -> None:
    """A line of progress, on stderr."""
    print(line, file=sys.stderr, flush=True)


def show_json(value: Mapping[str, object]) -> None:
    """One JSON object on stdout."""
    print(json.dumps(value, ensure_ascii=False, indent=1, default=str))


def show_answer(answer: Answer, title: str) -> None:
    """An answer as a table, with its notes below."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table(title=title, box=SIMPLE_HEAD, padding=(0, 1, 0, 0), title_justify="left")
    for name, justify in (
        ("", "right"),
        ("item", "left"),
        ("title", "left"),
        ("score", "right"),
        ("retrieved", "right"),
    ):
        table.add_column(name, justify=justify, overflow="ellipsis", no_wrap=name != "title")  # type: ignore[arg-type]
    for place, hit in enumerate(answer.items, 1):
        table.add_row(str(place), hit.item_id, hit.title, f"{hit.score:.3f}", str(hit.retrieval_rank))
    out = console()
    out.print(table)
    out.print(notes_on(answer))


def show_reasons(answer: Answer, about: Mapping[str, str]) -> None:
    """What put each item in its place, in the words of `about`."""
    out = console()
    for place, hit in enumerate(answer.items, 1):
        if hit.contributions:
            out.print(f"{place}. {hit.item_id}: {reasons(hit.contributions, about)}")
    if not any(hit.contributions for hit in answer.items):
        out.print("not explained: features did not order this answer")


def reasons(contributions: Mapping[str, float], about: Mapping[str, str]) -> str:
    """The largest REASONS contributions in words.

    >>> reasons({"hour": 0.0, "age": -2.0, "takings": 1.5}, {"age": "since it was taken first"})
    '-2.00 age, since it was taken first; +1.50 takings'
    """
    largest = sorted(contributions.items(), key=lambda one: -abs(one[1]))[:REASONS]
    named = ((f"{name}, {about[name]}" if name in about else name, value) for name, value in largest if value)
    return "; ".join(f"{value:+.2f} {name}" for name, value in named)


def notes_on(answer: Answer) -> str:
    """How an answer came about, in one line."""
    revision = [f"index revision {answer.index_revision}"] if answer.index_revision else []
    ordered = f"ordered by {' and '.join(answer.reranked or ('retrieval alone',))}"
    parts = [f"release {answer.release}", *revision, ordered]
    parts += [f"fallback: {what}" for what in answer.fallbacks]
    parts += answer.degraded
    parts += [f"searched for {answer.corrected_query!r}"] if answer.corrected_query else []
    parts.append(f"{sum(answer.timings_ms.values()):.0f} ms")
    return ", ".join(parts)


def show_evaluation(evaluation: Mapping[str, Json], report: Path) -> None:
    """Every stage and baseline side by side, the gates, and the path of the report."""
    from serving.evaluation.figures import as_object
    from serving.reporting.gate_words import gate_sentences
    from serving.reporting.tables import tables

    out = console()
    for table in tables(evaluation):
        out.print(table)
    for line in gate_sentences(as_object(evaluation.get("gate", {}))):
        out.print(line)
    out.print(f"report: {report}")


def show_live(release: Release, bundle: Path, as_json: bool) -> None:
    """That a release is live."""
    if as_json:
        show_json({"release": release.id, "live": True, "ranker": release.ranker})
    else:
        print(f"release {release.id} of {bundle} is live, {'with' if release.ranker else 'without'} a ranker")


def show_update(done: Updated) -> None:
    """What an update did."""
    print(
        f"update {done.number} of release {done.release}: {done.upserted:,} items upserted, {done.new:,} of them new, "
        f"{done.embedded:,} texts embedded; {done.deleted:,} deleted"
    )
    if done.unknown:
        print(f"{done.unknown:,} of the ids to delete were not in the index")
    if done.set_aside:
        print(f"{done.set_aside:,} rows were set aside in rejected.parquet")


def show_seconds(seconds: Mapping[str, float]) -> None:
    """How long each stage took."""
    from retrieval.progress import duration

    parts: Sequence[str] = [f"{stage} {duration(spent)}" for stage, spent in seconds.items()]
    console().print(f"{', '.join(parts)}; total {duration(sum(seconds.values()))}")
