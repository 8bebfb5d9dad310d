"""A bundle and its releases as text in a terminal."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from rich.filesize import decimal

from serving.cli.show import console
from serving.reporting.gate_words import gate_sentences

if TYPE_CHECKING:
    from serving.jobs.bundle_status import ReleaseLine, Status


def status_lines(found: Status) -> Iterator[str]:
    """The state of a bundle, line by line."""
    live = found.live
    author, why = live.who or "unknown", live.why or "no reason given"
    yield f"live      {live.release}, created {live.created} by {author}: {why}"
    if found.since:
        yield f"since     {found.since}"
    yield f"rollback  to {found.rollback_to or 'nothing'}"
    yield f"parts     {', '.join(f'{kind}/{name}' for kind, name in live.parts.items())}"
    yield f"index     {_index(live)}"
    if live.figures:
        yield f"nDCG@10   {_figures(live.figures)}"
    for number, line in enumerate(gate_sentences(live.gates)):
        yield f"{'' if number else 'gates':<10}{line}"
    yield f"updates   {found.updates:,} since the build: {found.upserted:,} items upserted, {found.deleted:,} deleted"
    yield f"releases  {found.releases:,}"
    yield f"writer    {'none' if found.writer is None else f'process {found.writer}'}"
    yield f"staging   {_sizes(found.staging) or 'empty'}"
    yield f"disk      {decimal(sum(found.bytes.values()))}: {_sizes(found.bytes)}"


def show_releases(found: Sequence[ReleaseLine]) -> None:
    """Releases as a table; the live one is marked."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for name in ("", "release", "created", "items", "recall@100", "nDCG@10", "who", "why"):
        right = name in ("items", "recall@100")
        table.add_column(name, justify="right" if right else "left", overflow="fold", no_wrap=name == "release")
    for one in found:
        items = "?" if one.items is None else f"{one.items:,}"
        recall = "?" if one.recall is None else f"{one.recall:.3f}"
        live = "*" if one.live else ""
        why = f"{one.why} (refused by {', '.join(one.refused_by)})" if one.refused_by else one.why
        created = one.created[:16].replace("T", " ")
        table.add_row(live, one.release, created, items, recall, _figures(one.figures), one.who, why)
    console().print(table)


def _index(live: ReleaseLine) -> str:
    items = "unknown" if live.items is None else f"{live.items:,}"
    recall = "unknown" if live.recall is None else f"{live.recall:.3f}"
    return f"{items} items when built, {live.kind or 'unknown kind'}, recall@100 {recall}"


def _figures(figures: Mapping[str, float]) -> str:
    return ", ".join(f"{task} {figure:.3f}" for task, figure in figures.items())


def _sizes(sizes: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {decimal(size)}" for name, size in sizes.items() if size)
