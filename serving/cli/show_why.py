"""Why items are answered, and why one is not, as text in a terminal."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING

from serving.cli.show import console
from serving.texts.catalogue import Language, text

if TYPE_CHECKING:
    from rich.table import Table

    from serving.explanation import Explanation
    from serving.request import Answer, Hit
    from serving.why_not.result import SourceGap, WhyNot

SHOWN = 3  # contributions, sources and causes that are shown of an item


def show_explanations(answer: Answer, about: Mapping[str, str], language: Language = "en") -> None:
    """Why each item of an answer stands where it does; `about` says what contributions are, by their name."""
    out = console()
    for place, hit in enumerate(answer.items, 1):
        if hit.explanation is not None:
            out.print(f"{place}. {hit.item_id}")
            out.print(_grid(_explained(hit, hit.explanation, about, language), language))


def show_why_not(found: WhyNot, language: Language = "en") -> None:
    """Why an item is not answered, and what would bring it in."""
    out, change = console(), found.change
    out.print(f"{found.item_id}  {found.title}".rstrip())
    lines = [("reason", found.reason.text(language)), ("places", _places(found.places))]
    if found.place_as_candidate is not None:
        lines.append(("as_candidate", str(found.place_as_candidate)))
    lines += [("short_of", "" if found.short_of is None else f"{found.short_of:.3f}")]
    lines += [("terms", _largest(found.terms.items(), language))]
    gaps = (
        f"{name} {gap.score:.3f}" + ("" if gap.last is None else f" / {gap.last:.3f}") for name, gap in _weighed(found)
    )
    lines += [("gaps", text("note.also", language).join(gaps))]
    if found.stage != "answered":
        lines.append(("change", text("why_not.no_change", language) if change is None else change.text(language)))
    out.print(_grid(lines, language))


def reasons(contributions: Mapping[str, float], about: Mapping[str, str], language: Language = "en") -> str:
    """The largest SHOWN contributions in words.

    >>> reasons({"hour": 0.0, "age": -2.0, "takings": 1.5}, {"age": "since it was taken first"})
    '-2.00 age, since it was taken first; +1.50 takings'
    """
    named = {
        name: text("explained.named", language, name=name, about=about[name]) if name in about else name
        for name in contributions
    }
    return _largest(((named[name], value) for name, value in contributions.items()), language)


def _explained(
    hit: Hit, explanation: Explanation, about: Mapping[str, str], language: Language
) -> Iterator[tuple[str, str]]:
    yield "reason", text("note.also", language).join(reason.text(language) for reason in explanation.reasons)
    yield "places", _places(explanation.places)
    yield "features", reasons(hit.contributions, about, language)
    yield "rules", text("note.also", language).join(f"{one.rule} ({one.kind})" for one in explanation.rules)
    yield "sources", _largest(((name, given.share) for name, given in explanation.sources.items()), language)
    yield "events", _largest(((f"{one.title} ({one.event})", one.effect) for one in explanation.events), language)
    yield "words", _largest(((one.word, one.effect) for one in explanation.words), language)


def _largest(parts: Iterable[tuple[str, float]], language: Language) -> str:
    largest = sorted((part for part in parts if part[1]), key=lambda part: -abs(part[1]))[:SHOWN]
    return text("note.also", language).join(f"{value:+.2f} {name}" for name, value in largest)


def _places(places: Mapping[str, int]) -> str:
    return ", ".join(f"{stage} {place}" for stage, place in places.items())


def _weighed(found: WhyNot) -> Iterator[tuple[str, SourceGap]]:
    return ((name, gap) for name, gap in found.sources.items() if gap.weight)


def _grid(lines: Iterable[tuple[str, str]], language: Language) -> Table:
    """Lines with a heading each, those without a text left out."""
    from rich.table import Table

    grid = Table.grid(padding=(0, 2, 0, 0))
    for heading, line in lines:
        if line:
            grid.add_row("  " + text(f"explained.{heading}", language), line)
    return grid
