"""Answers, evaluations and updates as text in a terminal."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from serving.texts.catalogue import Language, text

if TYPE_CHECKING:
    from rich.console import Console

    from indexing.bundle.releases import Release
    from serving.evaluation.figures import Json
    from serving.jobs.update_index import Updated
    from serving.request import Answer

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


def show_answer(answer: Answer, title: str, language: Language = "en") -> None:
    """An answer as a table, with its notes below."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table(title=title, box=SIMPLE_HEAD, padding=(0, 1, 0, 0), title_justify="left")
    columns = [("", "right"), ("item", "left"), ("title", "left"), ("score", "right"), ("retrieved", "right")]
    moved = any(hit.rules for hit in answer.items)
    for name, justify in (*columns, *([("rules", "left")] if moved else [])):
        heading = name and text(f"terminal.column_{name}", language)
        table.add_column(heading, justify=justify, overflow="ellipsis", no_wrap=name != "title")  # type: ignore[arg-type]
    for place, hit in enumerate(answer.items, 1):
        cells = [str(place), hit.item_id, hit.title, f"{hit.score:.3f}", str(hit.retrieval_rank)]
        table.add_row(*cells, *([", ".join(hit.rules)] if moved else []))
    out = console()
    out.print(table)
    out.print(notes_on(answer, language))


def notes_on(answer: Answer, language: Language = "en") -> str:
    """How an answer came about, in one line."""
    by = [text(f"note.{part}", language) for part in answer.reranked or ("retrieval_alone",)]
    parts = [text("note.release", language, release=answer.release)]
    parts += [text("note.revision", language, revision=answer.index_revision)] if answer.index_revision else []
    parts.append(text("note.ordered", language, parts=text("note.and", language).join(by)))
    parts += answer.notes(language)
    parts.append(text("note.milliseconds", language, n=f"{sum(answer.timings_ms.values()):.0f}"))
    return text("note.between", language).join(parts)


def show_evaluation(evaluation: Mapping[str, Json], report: Path, language: Language = "en") -> None:
    """Every stage and baseline side by side, the gates, and the path of the report."""
    from serving.evaluation.figures import as_object
    from serving.reporting.gate_words import gate_sentences
    from serving.reporting.tables import tables

    out = console()
    for table in tables(evaluation, language):
        out.print(table)
    for line in gate_sentences(as_object(evaluation.get("gate", {})), language):
        out.print(line)
    out.print(text("terminal.report", language, path=report))


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
