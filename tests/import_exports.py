"""The hand-made exports of `tests/retrieval/importing/exports`, imported, and what came of them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow.parquet as pq

from retrieval.data.dataset import check
from retrieval.data.schema import EVENTS, JUDGEMENTS
from retrieval.importing.report import ImportReport
from retrieval.importing.run import import_data

EXPORTS = Path(__file__).parent / "retrieval/importing/exports"
Rows = list[dict[str, Any]]


def imported(name: str, out: Path, **options: Any) -> ImportReport:
    """The report on the import of an export by its folder's name; the reader is recognised, unless it is given."""
    return import_data([EXPORTS / name], out, **options)


def rows_of(out: Path, table: str) -> Rows:
    """The rows of a table of a data set, in file order, without their nulls."""
    rows = pq.read_table(out / f"{table}.parquet").to_pylist()
    return [{name: value for name, value in row.items() if value is not None} for row in rows]


def left_out(report: ImportReport, table: str) -> dict[str, int]:
    """The rows of a table that the reader left out, by reason."""
    return {one.what: one.rows for one in one_table(report, table).left_out}


def one_table(report: ImportReport, table: str) -> Any:
    """The report on one table."""
    return next(one for one in report.tables if one.name == table)


def usable(out: Path) -> bool:
    """Whether `shortlist check` accepts the data set as it is; a feed of products needs no events."""
    has_more = any((out / name).exists() for name in (EVENTS, JUDGEMENTS))
    check(out, require_interactions=has_more).raise_if_refused()
    return True


class Export(NamedTuple):
    """What an import told, and the rows of each table that it wrote, without their nulls."""

    report: ImportReport
    tables: dict[str, Rows]


ExportOf = Callable[[str], Export]


def told(report: ImportReport, table: str) -> dict[str, int]:
    """How many rows of a table were left out, set aside or noted, by what is said of them."""
    found = one_table(report, table)
    return {one.what: one.rows for one in (*found.left_out, *found.rejected, *found.lost, *found.notes)}


def only(rows: Rows, *columns: str, **values: object) -> list[tuple[Any, ...]]:
    """These columns, None where they are null, of the rows that have the given values, in order."""
    wanted = [row for row in rows if all(row.get(name) == value for name, value in values.items())]
    return [tuple(row.get(name) for name in columns) for row in wanted]
