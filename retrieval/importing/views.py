"""DuckDB views over the files of an export, with the columns that a reader names."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from retrieval.importing.macros import MACROS
from retrieval.importing.recognise import Assignment, spelling, spellings
from retrieval.importing.registry import Input
from retrieval.importing.source_files import SourceFile

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

LINE_BYTES = 16 << 20  # the longest row of a delimited file
OBJECT_BYTES = 64 << 20  # the longest line of JSON
JSON_GROWTH = 20  # times that a packed document may become larger
TEXT = "VARCHAR"
_FAULTS = {
    "TOO MANY COLUMNS": "with more columns than its header",
    "UNQUOTED VALUE": "with a quotation mark that does not end",
    "INVALID UNICODE": "with broken characters",
    "INVALID ENCODING": "with broken characters",
    "LINE SIZE OVER MAXIMUM": "that is too long",
}  # DuckDB's kinds of faults, in words


class BadLine(NamedTuple):
    """A line that cannot be read: its number from 1, why, and its text."""

    line: int
    why: str
    text: str


def prepare(connection: DuckDBPyConnection, assignment: Assignment) -> None:
    """Makes the macros and one view an input; the view of an input without files has no rows."""
    connection.execute("SET timezone = 'UTC'")
    connection.execute(MACROS)
    for one in assignment.reader.inputs:
        selects = [select_of(connection, one, file) for file in assignment.files.get(one.name, ())]
        body = " UNION ALL BY NAME ".join(selects) or _no_rows(one)
        connection.execute(f"CREATE VIEW {quoted(one.name)} AS {body}")
    connection.execute(assignment.reader.setup)


def select_of(connection: DuckDBPyConnection, one: Input, file: SourceFile) -> str:
    """The query that reads one file as an input, without the rows that hold nothing."""
    if file.kind in ("json", "jsonl"):
        columns = file.columns_of(one.rows)
        values = {name: _json_value(wanted, columns) for name, wanted in one.columns.items()}
        return f"SELECT {_listed(values)} FROM {_json_rows(one, file)} WHERE json IS NOT NULL"
    if file.kind == "parquet":
        values = _parquet_values(connection, one, file)
        return f"SELECT {_listed(values)} FROM {_parquet(file)}"
    columns = tuple(one.header.split()) if one.file else file.columns
    places = {name: f"c{at}" for at, name in reversed(list(enumerate(columns)))}
    found = {name: spelling(wanted, columns) for name, wanted in one.columns.items()}
    values = {name: f"cell({places[at]})" if at else f"NULL::{TEXT}" for name, at in found.items()}
    anything = ", ".join(f"c{at}" for at in range(len(columns)))
    return f"SELECT {_listed(values)} FROM {_csv(one, file, len(columns))} WHERE coalesce({anything}, NULL) IS NOT NULL"


def bad_lines(connection: DuckDBPyConnection, assignment: Assignment) -> dict[str, list[BadLine]]:
    """The lines that could not be read, by input; call it after the queries."""
    found: dict[str, list[BadLine]] = {}
    for name, files in assignment.files.items():
        for file in files:
            rows = _bad_rows_of_csv(connection, file) if file.kind == "csv" else _bad_lines_of_json(connection, file)
            lines = [BadLine(line, f"line of {file.label} {why}", text) for line, why, text in rows]
            found.setdefault(name, []).extend(lines)
    return {name: rows for name, rows in found.items() if rows}


def _bad_rows_of_csv(connection: DuckDBPyConnection, file: SourceFile) -> list[tuple[int, str, str]]:
    if not connection.execute("SELECT 1 FROM duckdb_tables() WHERE table_name = 'reject_errors'").fetchone():
        return []  # no such file was read
    rows = connection.execute(
        "SELECT DISTINCT ON (line) line, CAST(error_type AS VARCHAR), error_message, csv_line FROM reject_errors "
        "JOIN reject_scans USING (scan_id, file_id) WHERE file_path = ? ORDER BY line",
        [str(file.path)],
    ).fetchall()
    return [(line, _FAULTS.get(kind, f"that is damaged: {message}"), text) for line, kind, message, text in rows]


def _bad_lines_of_json(connection: DuckDBPyConnection, file: SourceFile) -> list[tuple[int, str, str]]:
    if file.kind != "jsonl":
        return []
    nulls = connection.execute(f"SELECT count(*) FROM {_json_objects(file)} WHERE json IS NULL").fetchone()
    if not nulls or not nulls[0]:
        return []
    lines = (
        f"read_csv({literal(file.path)}, header = false, auto_detect = false, columns = {{'text': 'VARCHAR'}}, "
        f"delim = '\x01', quote = '', escape = '', max_line_size = {LINE_BYTES}, parallel = false)"
    )
    return connection.execute(
        f"SELECT line, 'that is no JSON', text FROM (SELECT row_number() OVER () AS line, text FROM {lines}) "
        "WHERE NOT json_valid(text)"
    ).fetchall()


def _csv(one: Input, file: SourceFile, n_columns: int) -> str:
    columns = ", ".join(f"'c{at}': 'VARCHAR'" for at in range(n_columns))
    skip = 0 if one.file else file.skipped_lines
    delimiter = one.delimiter or file.delimiter
    quote = "" if one.file else '"'
    return (
        f"read_csv({literal(file.path)}, header = false, skip = {skip}, auto_detect = false, columns = {{{columns}}}, "
        f"delim = {literal(delimiter)}, quote = '{quote}', escape = '{quote}', null_padding = true, parallel = false, "
        f"store_rejects = true, max_line_size = {LINE_BYTES})"
    )


def _parquet(file: SourceFile) -> str:
    return f"read_parquet({literal(file.path)})"


def _parquet_values(connection: DuckDBPyConnection, one: Input, file: SourceFile) -> dict[str, str]:
    types = {row[0]: row[1] for row in connection.execute(f"DESCRIBE FROM {_parquet(file)}").fetchall()}
    values = {}
    for name, wanted in one.columns.items():
        found = spelling(wanted, file.columns)
        if found is not None:
            values[name] = _plain(quoted(found), types[found], one.typed)
        else:
            inner = next((path for path in spellings(wanted) if path.partition(".")[0] in types and "." in path), None)
            steps = [] if inner is None else inner.split(".")
            values[name] = f"CAST({'.'.join(map(quoted, steps))} AS {TEXT})" if steps else f"NULL::{TEXT}"
    return values


def _plain(column: str, kind: str, typed: bool) -> str:
    """A column of parquet as text, whole floating numbers without `.0`, or in its own type."""
    if kind == TEXT or kind.startswith("ENUM"):
        return f"cell(CAST({column} AS {TEXT}))"
    if typed:
        return column
    if kind.endswith("]") or kind.startswith(("STRUCT", "MAP", "UNION")):
        return f"CAST(to_json({column}) AS {TEXT})"
    if kind in ("DOUBLE", "FLOAT"):
        whole = f"{column} = floor({column}) AND abs({column}) < 9007199254740992"
        return f"CASE WHEN {whole} THEN CAST(CAST({column} AS BIGINT) AS {TEXT}) ELSE CAST({column} AS {TEXT}) END"
    return f"CAST({column} AS {TEXT})"


def _json_value(wanted: str, columns: Sequence[str]) -> str:
    """The first of the spellings that a document has; that which the first documents have comes first."""
    found = dict.fromkeys([spelling(wanted, columns) or spellings(wanted)[0], *spellings(wanted)])
    paths = [literal("$." + ".".join(quoted(step) for step in path.split("."))) for path in found]
    return f"cell(coalesce({', '.join(f'json_extract_string(json, {path})' for path in paths)}, NULL))"


def _json_rows(one: Input, file: SourceFile) -> str:
    if not one.rows:
        return _json_objects(file)
    key = literal(f"$.{quoted(one.rows)}")
    rows = f"from_json(coalesce(json_extract(json, {key}), json_array(json)), '[\"JSON\"]')"
    return f"(SELECT unnest({rows}) AS json FROM {_json_objects(file)})"


def _json_objects(file: SourceFile) -> str:
    size = file.path.stat().st_size * (JSON_GROWTH if file.path.suffix == ".gz" else 1)
    if file.kind == "jsonl":
        told, size = "newline_delimited', ignore_errors = true", OBJECT_BYTES
    else:
        told = "auto'"
    return f"read_json_objects({literal(file.path)}, format = '{told}, maximum_object_size = {max(size, OBJECT_BYTES)})"


def _no_rows(one: Input) -> str:
    return f"SELECT {_listed({name: f'NULL::{TEXT}' for name in one.columns})} WHERE false"


def _listed(values: dict[str, str]) -> str:
    return ", ".join(f"{value} AS {quoted(name)}" for name, value in values.items())


def quoted(name: str) -> str:
    """A name in SQL."""
    return '"' + name.replace('"', '""') + '"'


def literal(text: object) -> str:
    """A text in SQL."""
    return "'" + str(text).replace("'", "''") + "'"
