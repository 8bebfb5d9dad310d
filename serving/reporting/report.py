"""One self-contained HTML page about a release: figures, gate, real requests before and after reranking.

Everything it shows is given: nothing is measured, read or fetched here. What stands where is decided in
`report_view`, charts are drawn in `charts`, the page is `report.html.j2` and `report.css`.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from importlib.resources import files
from pathlib import Path

from serving.evaluation.figures import Example, Json
from serving.reporting import gate_cards, report_view


@dataclass(frozen=True, kw_only=True)
class Report:
    """All that the page shows.

    evaluation: what `serving.evaluation.figures.evaluate` returns. facts: of the data, name to text. split: how the
    data were split and why, one sentence. folds: requests in each. environment: machine, versions and settings, name to
    text. generated: the data are made up, which the page then states. platt_scaling: by task, how well the scores hold
    as probabilities.
    """

    title: str
    created: datetime
    evaluation: Mapping[str, Json]
    facts: Mapping[str, str] = field(default_factory=dict)
    split: str = ""
    folds: Mapping[str, int] = field(default_factory=dict)
    examples: Sequence[Example] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    generated: bool = False
    platt_scaling: Mapping[str, Json] = field(default_factory=dict)


def write_whole(page: str, path: Path) -> None:
    """Write a text to `path`, whole or not at all."""
    with written({path: page}):
        pass


@contextmanager
def written(texts: Mapping[Path, str]) -> Iterator[None]:
    """Write texts beside where they belong, and put them there if what happens inside comes to a good end."""
    beside = {path: path.with_name(f".{path.name}.{os.getpid()}") for path in texts}
    try:
        for path, text in texts.items():
            beside[path].write_text(text, encoding="utf-8")
        yield
        for path, made in beside.items():
            made.replace(path)
    finally:
        for made in beside.values():
            made.unlink(missing_ok=True)


def page_style() -> str:
    """The style sheet of every page that this package writes; charts take their colours from it."""
    return files("serving.reporting").joinpath("report.css").read_text(encoding="utf-8")


def render_report(report: Report) -> str:
    """The page as one string of HTML that loads nothing: styles and charts are inside, every given text is escaped."""
    from jinja2 import Environment, StrictUndefined

    page = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    template = page.from_string(files("serving.reporting").joinpath("report.html.j2").read_text(encoding="utf-8"))
    tasks = report_view.tasks_of(report.evaluation)
    return template.render(
        style=page_style(),
        title=report.title,
        created=f"{report.created.day} {report.created:%B %Y, %H:%M}",
        release=report.evaluation.get("release"),
        generated=report.generated,
        tiles=report_view.tiles(tasks),
        sections=[report_view.section(name, task) for name, task in tasks.items()],
        gates=gate_cards.gates(report.evaluation),
        change=report_view.change_chart(tasks),
        reliability=report_view.reliability_charts(report.platt_scaling),
        examples=[
            report_view.example(one.kind, one.asked, one.before, one.after, one.targets) for one in report.examples
        ],
        split=report.split,
        facts=report.facts,
        folds=report_view.folds(report.folds),
        environment=report.environment,
    )
