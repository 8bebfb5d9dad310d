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
from functools import partial
from importlib.resources import files
from pathlib import Path

from serving.evaluation.figures import Example, Json
from serving.reporting import gate_cards, report_view
from serving.reporting.charts import chart_language
from serving.texts.catalogue import Language, text


@dataclass(frozen=True, kw_only=True)
class Report:
    """All that the page shows.

    evaluation: what `serving.evaluation.figures.evaluate` returns. facts: of the data, name to text. split: how the
    data were split and why, one sentence. folds: requests in each. environment: machine, versions and settings, name to
    text. generated: the data are made up, which the page then states. platt_scaling: by task, how well the scores hold
    as probabilities. language: of all that the page says; what is given above is shown as it is given.
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
    language: Language = "en"


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
    tasks, language = report_view.tasks_of(report.evaluation), report.language
    return template.render(
        style=page_style(),
        page=partial(page_text, language),
        title=report.title,
        created=date_text(report.created, language),
        release=report.evaluation.get("release"),
        generated=report.generated,
        no_font=chart_language(language) != language,
        tiles=report_view.tiles(tasks, language),
        sections=[report_view.section(name, task, language) for name, task in tasks.items()],
        gates=gate_cards.gates(report.evaluation, language),
        change=report_view.change_chart(tasks, language),
        reliability=report_view.reliability_charts(report.platt_scaling, language),
        examples=[
            report_view.example(one.kind, one.asked, one.before, one.after, one.targets, language)
            for one in report.examples
        ],
        split=report.split,
        facts=report.facts,
        folds=report_view.folds(report.folds, language),
        environment=report.environment,
    )


def page_text(language: Language, key: str, **values: object) -> str:
    """A text of the page itself."""
    return text(f"page.{key}", language, **values)


def date_text(time: datetime, language: Language = "en") -> str:
    """A day and a time of day.

    >>> date_text(datetime(2025, 3, 1, 9, 5)), date_text(datetime(2025, 3, 1, 9, 5), "zh")
    ('1 March 2025, 09:05', '2025年3月1日 09:05')
    """
    month = text(f"date.month_{time.month}", language)
    return text("date.time", language, day=time.day, month=month, year=time.year, time=f"{time:%H:%M}")
