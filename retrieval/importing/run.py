"""`shortlist import`: an export of a shop becomes a data set in the contract, and a report says how."""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from retrieval.data.check_report import SET_ASIDE
from retrieval.errors import BadConfig, BadData
from retrieval.extras import require
from retrieval.importing.plain import mapped, queried, read_mapping, table_of
from retrieval.importing.recognise import Assignment, chosen, recognised, spelling
from retrieval.importing.registry import TABLES, reader_named
from retrieval.importing.report import Counted, ImportReport, TableReport
from retrieval.importing.source_files import Opened, open_files
from retrieval.importing.tables import REJECTED, StagedTable, create_rejected, report_on, stage, write_table
from retrieval.importing.views import BadLine, bad_lines, literal, prepare

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

REJECTED_FILE = "rejected.parquet"


def import_data(
    sources: Sequence[Path | str],
    out: Path | str,
    *,
    reader: str | None = None,
    mapping: str | None = None,
    query: str | None = None,
    table: str | None = None,
    overwrite: bool = False,
    day_first: bool | None = None,
    encoding: str | None = None,
) -> ImportReport:
    """Read an export and write it as a data set.

    Args:
        sources: files, folders, `.zip` or `.gz` of CSV, JSON, XML or parquet; for a query also DuckDB files.
        out: the folder of the data set; files of other tables that it holds stay.
        reader: the name of a reader; by default that which knows the files' columns.
        mapping: instead of a reader, columns as `item_id=sku,title=name`.
        query: instead of a reader, a DuckDB query whose columns are the contract's.
        table: the table that `mapping` or `query` makes; by default what its columns make.
        overwrite: replace files of `out` that are there.
        day_first: whether `03/04/2024` is in April; by default what the column's other dates say.
        encoding: the encoding of text files; by default found out.

    Raises:
        BadData: a source cannot be read, no reader knows it, `out` holds what would be overwritten, or there is
            nothing to write. Nothing is written then.
        BadConfig: arguments contradict each other, or a query does not run.
        MissingDependency: DuckDB is not installed.
    """
    require("duckdb", "shortlist import")
    if sum(one is not None for one in (reader, mapping, query)) > 1:
        raise BadConfig("--from, --map and --query exclude each other; give one of them")
    if table is not None and (table not in TABLES or (mapping is None and query is None)):
        raise BadConfig(f"--table {table}: goes with --map or --query, and is one of {', '.join(TABLES)}")
    target = Path(out)
    if target.exists() and not target.is_dir():
        raise BadConfig(f"--out {target}: is a file; name a folder")
    fresh = not target.exists()
    target.mkdir(parents=True, exist_ok=True)
    try:
        with tempfile.TemporaryDirectory(prefix=".import-", dir=target) as folder:
            scratch = Path(folder)
            opened = open_files(map(Path, sources), scratch, encoding=encoding)
            with _duckdb(scratch) as connection:
                assignment = _assignment(connection, opened, reader, mapping, query, table)
                return _Import(connection, assignment, opened, scratch, target).run(overwrite, day_first)
    finally:
        if fresh and not any(target.iterdir()):
            target.rmdir()


def _assignment(
    connection: DuckDBPyConnection,
    opened: Opened,
    reader: str | None,
    mapping: str | None,
    query: str | None,
    table: str | None,
) -> Assignment:
    """Who reads what, and the views of it."""
    if query is not None:
        assignment = queried(connection, opened.files, query, table)
    elif mapping is not None:
        assignment = mapped(opened.files, read_mapping(mapping), table)
    else:
        assignment = chosen(reader_named(reader), opened.files) if reader is not None else recognised(opened.files)
    prepare(connection, assignment)
    if query is not None and table is None:
        columns = connection.execute(f"DESCRIBE ({assignment.reader.tables['']})").fetchall()
        name = table_of([column[0] for column in columns], None, "--query")
        assignment = replace(assignment, reader=replace(assignment.reader, tables={name: assignment.reader.tables[""]}))
    return assignment


@contextmanager
def _duckdb(scratch: Path) -> Iterator[DuckDBPyConnection]:
    """A database in `scratch`, so that exports may be larger than memory; its errors become one line."""
    import duckdb

    connection = duckdb.connect(scratch / "import.duckdb")
    try:
        connection.execute(f"SET temp_directory = {literal(scratch)}")
        connection.execute("SET enable_progress_bar = false")
        yield connection
    except duckdb.OutOfMemoryException as error:
        raise MemoryError(str(error)) from error
    except duckdb.Error as error:
        if os.strerror(errno.ENOSPC) in str(error):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(scratch)) from error
        told = str(error).split("\n\n")[0].replace("\n", " ")
        raise BadData(
            f"DuckDB cannot read this: {told[:300]}; mend the query or the file, or read it by --map"
        ) from error
    finally:
        connection.close()


class _Import:
    """The tables of one import, staged, counted and written."""

    def __init__(
        self, connection: DuckDBPyConnection, assignment: Assignment, opened: Opened, scratch: Path, target: Path
    ) -> None:
        self.connection = connection
        self.assignment = assignment
        self.opened = opened
        self.scratch = scratch
        self.target = target

    def run(self, overwrite: bool, day_first: bool | None) -> ImportReport:
        reader = self.assignment.reader
        create_rejected(self.connection)
        staged = [stage(self.connection, name, query, day_first) for name, query in reader.tables.items()]
        found = [(table, report_on(self.connection, table)) for table in staged]
        found = self._with_bad_lines([(table, told) for table, told in found if _told_something(told)])
        written = [table for table, told in found if told.rows]
        self._check(found, overwrite)
        names = [TABLES[table.name] for table in written]
        for table in written:
            write_table(self.connection, table, self.scratch / TABLES[table.name])
        rejected = self._write_rejected(names)
        for name in names:
            _move(self.scratch / name, self.target / name)
        return self._report(tuple(told for _, told in found), rejected)

    def _check(self, found: Sequence[tuple[StagedTable, TableReport]], overwrite: bool) -> None:
        """Refuses what would overwrite data, or leave no usable data set."""
        rows = {told.name: told.rows for _, told in found}
        if not any(rows.values()):
            why = "; ".join(str(one) for _, told in found for one in (*told.left_out, *told.rejected)) or "no rows"
            raise BadData(f"nothing to write: {why}; name other files, or another reader by --from")
        there = [TABLES[name] for name, n in rows.items() if n and (self.target / TABLES[name]).exists()]
        if there and not overwrite:
            raise BadData(f"{self.target} already has {', '.join(there)}; name another --out, or add --overwrite")

    def _with_bad_lines(
        self, found: Sequence[tuple[StagedTable, TableReport]]
    ) -> list[tuple[StagedTable, TableReport]]:
        """Adds the lines that could not be read to the report of the first table whose query names their input, else
        the last: queries may read it through views of the reader's own."""
        by_input = bad_lines(self.connection, self.assignment)
        told = []
        for table, report in found:
            query, last = self.assignment.reader.tables[table.name], table is found[-1][0]
            mine = [row for name in list(by_input) if last or name in query for row in by_input.pop(name)]
            insert = f"INSERT INTO {REJECTED} VALUES ('{TABLES[table.name]}', $1, $2, '{SET_ASIDE}', $3)"
            if mine:
                self.connection.executemany(insert, mine)
            groups = _grouped(mine).items()
            counted = tuple(Counted(what=why, rows=n, example=f"line {line}") for why, (n, line) in groups)
            told.append((table, replace(report, rejected=(*report.rejected, *counted))))
        return told

    def _write_rejected(self, names: Sequence[str]) -> list[str]:
        """Writes what could not be read beside the tables, with what earlier imports of other tables left there.

        Returns the file's path where this import adds to it.
        """
        earlier = self.target / REJECTED_FILE
        new = self._n_rejected()
        if earlier.exists():
            self.connection.execute(
                f"INSERT INTO {REJECTED} SELECT * FROM read_parquet({literal(earlier)}) "
                "WHERE NOT list_contains($1, file)",
                [list(names)],
            )
        if not self._n_rejected():
            earlier.unlink(missing_ok=True)
            return []
        self.connection.execute(f"COPY {REJECTED} TO {literal(self.scratch / REJECTED_FILE)} (FORMAT parquet)")
        _move(self.scratch / REJECTED_FILE, earlier)
        return [str(earlier)] if new else []

    def _n_rejected(self) -> int:
        row = self.connection.execute(f"SELECT count(*) FROM {REJECTED}").fetchone()
        return int(row[0]) if row else 0

    def _report(self, tables: tuple[TableReport, ...], rejected: Sequence[str]) -> ImportReport:
        reader, files = self.assignment.reader, self.assignment.files
        inputs = {one.name: one for one in reader.inputs}
        unused = {}
        for name, some in files.items():
            wanted = inputs[name].columns.values()
            for file in () if inputs[name].file else some:
                columns = file.columns_of(inputs[name].rows)
                used = {found for one in wanted if (found := spelling(one, columns))}
                inside = {column.partition(".")[0] for column in used}
                unused[file.label] = [
                    one for one in columns if one not in used and "." not in one and one not in inside
                ]
        why = {file.label: f"its columns are not of {reader.title}" for file in self.assignment.unread}
        return ImportReport(
            source=reader.title,
            reader=reader.name,
            out=str(self.target),
            files={file.label: name for name, some in files.items() for file in some},
            unread={**why, **self.opened.skipped},
            unused_columns=unused,
            encodings={file.label: file.encoding for file in self.opened.files if file.encoding != "utf-8"},
            tables=tables,
            rejected=rejected,
        )


def _told_something(report: TableReport) -> bool:
    return bool(report.rows or report.left_out or report.rejected)


def _grouped(lines: Sequence[BadLine]) -> dict[str, tuple[int, int]]:
    """The number of lines and the first line, by reason."""
    groups: dict[str, tuple[int, int]] = {}
    for line, why, _ in lines:
        n, first = groups.get(why, (0, line))
        groups[why] = n + 1, first
    return groups


def _move(source: Path, target: Path) -> None:
    """Puts a finished file in its place, after its bytes are on the disk."""
    with source.open("rb") as file:
        os.fsync(file.fileno())
    source.replace(target)
