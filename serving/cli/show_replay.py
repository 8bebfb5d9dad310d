"""What `shortlist replay` found, as text in a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from serving.cli.show import console

if TYPE_CHECKING:
    from serving.answering.release_state import ReleaseState
    from serving.audit.replay import Changes, Replay


def show_replay(found: Replay, state: ReleaseState) -> None:
    """A table of what changed by task, the items that came and went, and features that are computed otherwise."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    screen = console()
    if not found.total.requests:
        screen.print(f"nothing was asked again: {left_out(found)}")
        return
    title = f"answers of {', '.join(found.releases)}, asked again of {found.release}"
    table = Table(title=title, box=SIMPLE_HEAD, padding=(0, 1, 0, 0), title_justify="left")
    columns = ("task", "requests", "same", "same first", "overlap", "rank-biased", "ms then", "ms now")
    for name in columns:
        table.add_column(name, justify="left" if name == "task" else "right")
    rows = [*found.by_task.items(), *([("all", found.total)] if len(found.by_task) > 1 else [])]
    for task, changes in rows:
        table.add_row(task, *_cells(changes))
    screen.print(table)
    for what, items in (("answered now and not then", found.entered), ("answered then and not now", found.left)):
        if items:
            named = ", ".join(f"{_title(state, item)} ({item}) x {times:,}" for item, times in items)
            screen.print(f"{what}, the most often: {named}")
    if aside := left_out(found):
        screen.print(aside)
    if found.checked is not None:
        screen.print(_check(found))


def left_out(found: Replay) -> str:
    """What of the log could not be asked again; empty where all of it was."""
    parts = [
        f"{found.without_inputs:,} requests were kept without inputs (AuditLog(..., inputs=True) keeps them)"
        if found.without_inputs
        else "",
        f"{found.unreadable:,} lines cannot be read" if found.unreadable else "",
        f"{found.refused:,} requests are refused now, the first because {found.refusal}" if found.refused else "",
    ]
    return "; ".join(part for part in parts if part)


def _check(found: Replay) -> str:
    if not found.checked:
        return "features: none were kept, so there is nothing to check"
    if not found.skew:
        return f"features: all are as they were, in {found.checked:,} answers"
    told = ", ".join(f"{name} in {times:,} (by up to {largest:.3g})" for name, (times, largest) in found.skew.items())
    return f"features that differ, of {found.checked:,} answers: {told}"


def _cells(changes: Changes) -> list[str]:
    shares = (changes.same, changes.same_first, changes.overlap, changes.rank_biased_overlap)
    times = ["" if one is None else f"{one:.1f}" for one in (changes.before_ms, changes.now_ms)]
    return [f"{changes.requests:,}", *map(_share, shares), *times]


def _share(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}".removeprefix("0") if value < 1 else "1"


def _title(state: ReleaseState, item: str) -> str:
    """The start of an item's title; its id where the index does not hold it."""
    return (state.titles([item]) or [item])[0][:40]
