"""One table of the contract out of an export: the reader's query is run, its rows are cleaned, counted and written."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from retrieval.data.check_report import LEFT_OUT as VALUE_LEFT_OUT
from retrieval.data.check_report import SET_ASIDE
from retrieval.data.rejected import shown
from retrieval.data.schema import CONTRACT, Holds
from retrieval.errors import BadData
from retrieval.importing.cleaning import LEFT_OUT, NOTE, ROW, Cleaned, cleaned
from retrieval.importing.registry import TABLES
from retrieval.importing.report import Counted, TableReport
from retrieval.importing.views import TEXT, literal, quoted

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

ROWS_SHOWN = 3
REJECTED = "rejected_rows"  # the DuckDB table of all that could not be read
UNREADABLE = "that cannot be read"


@dataclass(frozen=True, kw_only=True)
class StagedTable:
    """The rows of a reader's query, before they are cleaned; `relation` is a DuckDB table that holds them.

    missing: for each required column the rule that a row without it breaks, and SQL that is true for such rows.
    """

    name: str
    relation: str
    columns: Cleaned
    missing: Mapping[str, tuple[str, str]]

    @property
    def kept(self) -> str:
        """SQL that is true for the rows that are written."""
        broken = " OR ".join(f"({broken})" for _, broken in self.missing.values())
        return f"{LEFT_OUT} IS NULL AND NOT ({broken})"


def stage(connection: DuckDBPyConnection, name: str, query: str, day_first: bool | None) -> StagedTable:
    """Runs the query of a table. Raises BadData where its rows lack a column that the contract requires."""
    relation = quoted(f"staged_{name}")
    connection.execute(f"CREATE TABLE {relation} AS SELECT row_number() OVER () - 1 AS {ROW}, * FROM ({query})")
    types = {row[0]: row[1] for row in connection.execute(f"DESCRIBE {relation}").fetchall()}
    for name_of_text in (LEFT_OUT, NOTE):
        if name_of_text not in types:
            connection.execute(f"ALTER TABLE {relation} ADD COLUMN {name_of_text} {TEXT}")
    required = [column for column in CONTRACT[TABLES[name]] if column.required]
    types = _without_empty(connection, relation, types, {ROW, *(column.name for column in required)})
    lacking = [column.name for column in required if column.name not in types]
    if lacking:
        have = ", ".join(column for column in types if column != ROW)
        raise BadData(f"{name}: without {', '.join(lacking)}; there are: {have}; add {lacking[0]}=COLUMN to --map")
    columns = cleaned(connection, name, relation, types, day_first)
    missing = {}
    for column in required:
        value = f"({columns.values[column.name]})"
        unusable = f"NOT coalesce(isfinite({value}), false)" if column.holds is Holds.NUMBER else f"{value} IS NULL"
        what = f"empty or {UNREADABLE}" if column.name in columns.unreadable else "empty"
        missing[column.name] = f"{column.name} {what}", unusable
    return StagedTable(name=name, relation=relation, columns=columns, missing=missing)


def _without_empty(
    connection: DuckDBPyConnection, relation: str, types: Mapping[str, str], needed: Collection[str]
) -> dict[str, str]:
    """The columns without those that are null in all rows that are not left out; those that are needed stay."""
    counts = connection.execute(
        f"SELECT {', '.join(f'count({quoted(column)})' for column in types)} FROM {relation} WHERE {LEFT_OUT} IS NULL"
    ).fetchone()
    present = dict(zip(types, counts or (), strict=True))
    return {column: kind for column, kind in types.items() if present[column] or column in needed}


def report_on(connection: DuckDBPyConnection, table: StagedTable) -> TableReport:
    """Counts the rows of a table; those that cannot be read go to the table `REJECTED`."""
    values = table.columns.values
    rejected, earlier = [], f"{LEFT_OUT} IS NULL"
    for column, (rule, broken) in table.missing.items():
        rejected += _reject(connection, table, column, rule, SET_ASIDE, f"{earlier} AND ({broken})")
        earlier += f" AND NOT ({broken})"
    lost = []
    for column, broken in table.columns.unreadable.items():
        rule = f"{column} {UNREADABLE}"
        lost += _reject(connection, table, column, rule, VALUE_LEFT_OUT, f"{table.kept} AND {broken}")
    first = connection.execute(
        f"SELECT {_listed(values)} FROM {table.relation} WHERE {table.kept} ORDER BY {ROW} LIMIT {ROWS_SHOWN}"
    ).fetchall()
    return TableReport(
        name=table.name,
        rows=_count(connection, table, table.kept),
        columns=tuple(values),
        first_rows=[dict(zip(values, row, strict=True)) for row in first],
        left_out=_by_reason(connection, table, LEFT_OUT),
        rejected=tuple(rejected),
        lost=tuple(lost),
        notes=_by_reason(connection, table, NOTE, f"AND {table.kept}"),
        assumed=table.columns.assumed,
    )


def write_table(connection: DuckDBPyConnection, table: StagedTable, path: Path) -> None:
    """Writes the rows that are kept, in the order of the query, as parquet."""
    connection.execute(
        f"COPY (SELECT {_listed(table.columns.values)} FROM {table.relation} WHERE {table.kept} ORDER BY {ROW}) "
        f"TO {literal(path)} (FORMAT parquet, COMPRESSION zstd)"
    )


def create_rejected(connection: DuckDBPyConnection) -> None:
    """Makes the empty table of rejected rows, with the columns of `retrieval.data.rejected`."""
    connection.execute(f"CREATE TABLE {REJECTED} (file {TEXT}, row BIGINT, rule {TEXT}, action {TEXT}, record {TEXT})")


def _listed(values: Mapping[str, str]) -> str:
    return ", ".join(f"{value} AS {quoted(name)}" for name, value in values.items())


def _count(connection: DuckDBPyConnection, table: StagedTable, where: str) -> int:
    row = connection.execute(f"SELECT count(*) FROM {table.relation} WHERE {where}").fetchone()
    return int(row[0]) if row else 0


def _by_reason(connection: DuckDBPyConnection, table: StagedTable, column: str, more: str = "") -> tuple[Counted, ...]:
    """How many rows have each value of `left_out` or `note`, the commonest first, with the first row's first value."""
    first_column = quoted(next(iter(table.columns.values)))
    rows = connection.execute(
        f"SELECT {column}, count(*), first(CAST({first_column} AS {TEXT}) ORDER BY {ROW}) FROM {table.relation} "
        f"WHERE {column} IS NOT NULL {more} GROUP BY 1 ORDER BY 2 DESC, 1"
    ).fetchall()
    return tuple(Counted(what=what, rows=n, example=shown(first) if first else "") for what, n, first in rows)


def _reject(
    connection: DuckDBPyConnection, table: StagedTable, column: str, rule: str, action: str, where: str
) -> list[Counted]:
    """Copies the rows of a condition to the rejected ones; what they are, counted."""
    count = _count(connection, table, where)
    if not count:
        return []
    record = ", ".join(f"{quoted(name)} := {quoted(name)}" for name in table.columns.values)
    connection.execute(
        f"INSERT INTO {REJECTED} SELECT $1, {ROW}, $2, $3, to_json(struct_pack({record})) FROM {table.relation} "
        f"WHERE {where} ORDER BY {ROW}",
        [TABLES[table.name], rule, action],
    )
    example = connection.execute(
        f"SELECT first(CAST({quoted(column)} AS {TEXT}) ORDER BY {ROW}) FROM {table.relation} WHERE {where}"
    ).fetchone()
    return [Counted(what=rule, rows=count, example=shown(example[0] if example else None))]
