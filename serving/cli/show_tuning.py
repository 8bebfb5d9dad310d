"""What `shortlist index tune` measured: a table, a chart and a page."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

from rich.filesize import decimal

from indexing.ann.faiss_kinds import params_text
from indexing.bundle.atomic_files import writing_to
from indexing.tuning.filter_crossover import Crossover
from retrieval.errors import BadConfig
from serving.cli.show import console
from serving.reporting.charts import standing_alone
from serving.reporting.report import page_style, write_whole

if TYPE_CHECKING:
    from serving.jobs.tune_index import Tuned

COLUMNS = ("kind", "parameters", "recall", "ms", "queries/s", "memory", "build s", "")
FORMATS = (".svg", ".png", ".html")


def show_tuning(found: Tuned) -> None:
    """The table, the choice and its reason, and how filters are answered."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    title = f"release {found.release}: {found.items:,} vectors of {found.dim} dimensions, queried with {found.asked}"
    table = Table(title=title, box=SIMPLE_HEAD, padding=(0, 1, 0, 0), title_justify="left")
    for name in COLUMNS:
        table.add_column(name, justify="left" if name in ("kind", "parameters", "") else "right")
    for row in rows_of(found, all_of_them=False):
        table.add_row(*row)
    out = console()
    out.print(table)
    for line in lines_of(found):
        out.print(line)


def rows_of(found: Tuned, *, all_of_them: bool = True) -> Iterator[tuple[str, ...]]:
    """One row for each measurement, marked where no other of as many vectors beats it, and where it is the choice.

    Without `all_of_them`, those that other search parameters of the same kind beat are left out.
    """
    for at, point in enumerate(found.chosen.curve):
        if not all_of_them and at not in found.own_best:
            continue
        mark = "chosen" if point == found.chosen.point else "best" if at in found.best else ""
        yield (
            found.name_of(point),
            params_text(point.kind, point.params),
            f"{point.recall:.3f}",
            f"{point.milliseconds:.3g}",
            f"{point.per_second:,.0f}",
            decimal(point.bytes),
            f"{point.build_seconds:.1f}",
            mark,
        )


def lines_of(found: Tuned) -> list[str]:
    """The choice and its reason, the live kind where it differs, and how filters are answered."""
    lines = [f"chosen: {found.chosen.why}"]
    if found.live != found.chosen.kind:
        lines.append(f"the live index is of kind {found.live}; `shortlist index build` would replace it")
    return lines if found.crossover is None else [*lines, filter_line(found.crossover)]


def filter_line(crossover: Crossover) -> str:
    """How filters are answered, by how many items they allow.

    >>> filter_line(Crossover(9_999, 2.0, ()))
    'filters that allow up to 9,999 items are answered by exact search over them, others inside the index'
    """
    return (
        f"filters that allow up to {crossover.exact_rows:,} items are answered by exact search over them, others "
        "inside the index"
    )


def require_format(path: Path | None) -> None:
    """Raises BadConfig for a file that is not a chart, before anything is measured."""
    if path is not None and path.suffix.lower() not in FORMATS:
        raise BadConfig(f"--out {path}: name a file that ends in {', '.join(FORMATS)}")


def write_drawing(found: Tuned, path: Path) -> None:
    """Recall against queries per second as an image or, with the table, as a page. Raises BadBundle where it cannot be
    written."""
    drawing, kind = found.drawing(), path.suffix.lower()
    with writing_to(path):
        if kind == ".png":
            path.write_bytes(drawing.png())
        else:
            write_whole(standing_alone(drawing.svg()) if kind == ".svg" else page(found, drawing.svg()), path)


def page(found: Tuned, svg: str) -> str:
    """One HTML file that loads nothing."""
    from jinja2 import Environment, StrictUndefined

    text = files("serving.reporting").joinpath("tuning.html.j2").read_text(encoding="utf-8")
    template = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True).from_string(text)
    return template.render(
        style=page_style(), found=found, svg=svg, columns=COLUMNS, rows=list(rows_of(found)), lines=lines_of(found)
    )
