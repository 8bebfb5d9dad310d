"""One self-contained page of results: what was measured, drawn, with everything it takes to repeat it.

Nothing is measured here. What stands where is decided in `benchmarks.report_view`, charts are drawn in
`benchmarks.charts` and `serving.figures`, the page is `report.html.j2` in the style of the package's other page.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from importlib.resources import files
from pathlib import Path

from benchmarks.reporting import quality as report_quality
from benchmarks.reporting import sections as report_view
from benchmarks.reporting.blocks import newest as of_newest_release
from benchmarks.result_lines import Recorded, latest
from serving.reporting.report import page_style, write_whole


def write_page(recorded: Sequence[Recorded], path: Path, *, title: str, before: Sequence[Recorded] = ()) -> None:
    """Write the page of the newest results to `path`, whole or not at all; `before` are earlier ones to compare."""
    write_whole(render_page(recorded, title=title, before=before), path)


def render_page(recorded: Sequence[Recorded], *, title: str, before: Sequence[Recorded] = ()) -> str:
    """The page as one string of HTML that loads nothing: styles and charts are inside, every given text is escaped.

    Raises BadData where `before` cannot be compared.
    """
    from jinja2 import Environment, StrictUndefined

    newest = latest(recorded)
    page = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    template = page.from_string(files("benchmarks.reporting").joinpath("report.html.j2").read_text(encoding="utf-8"))
    made = datetime.fromisoformat(max(one.run.date for one in newest))
    return template.render(
        title=title,
        style=page_style(),
        created=f"{made.day} {made:%B %Y, %H:%M}",
        lead=report_quality.lead(of_newest_release(newest)),
        tiles=report_view.tiles(of_newest_release(newest)),
        sections=report_view.sections(newest, before),
        runs=report_view.runs(newest),
    )
