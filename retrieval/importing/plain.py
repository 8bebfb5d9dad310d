"""Readers that are made on the command line: columns by `--map`, or rows by a DuckDB query."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from typing import TYPE_CHECKING

from retrieval.data.schema import CONTRACT
from retrieval.errors import BadConfig
from retrieval.importing.recognise import Assignment, described, spelling
from retrieval.importing.registry import TABLES, Input, Reader
from retrieval.importing.source_files import SourceFile, view_name
from retrieval.importing.views import literal, quoted

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection


def read_mapping(text: str) -> dict[str, str]:
    """Column of the contract to column of the file. Raises BadConfig where the text is no mapping.

    >>> read_mapping("item_id=sku, title=Product name")
    {'item_id': 'sku', 'title': 'Product name'}

    A pair in quotation marks may have commas: `item_id=sku,"title=Name, long"`.
    """
    mapping: dict[str, str] = {}
    for part in next(csv.reader([text], skipinitialspace=True), []):
        name, equals, column = (piece.strip() for piece in part.partition("="))
        if not (name and equals and column):
            raise BadConfig(f"--map {text}: {part.strip()!r} is no NAME=COLUMN; write such as item_id=sku,title=name")
        if name in mapping:
            raise BadConfig(f"--map {text}: names {name} twice; give each column once")
        mapping[name] = column
    return mapping


def table_of(columns: Sequence[str], table: str | None, option: str) -> str:
    """The table that columns make: the one given, else the one whose required columns they have.

    Raises BadConfig where there is none, or where it is not clear which.
    """
    if table is not None:
        return table
    found = [name for name, file in TABLES.items() if {c.name for c in CONTRACT[file] if c.required} <= set(columns)]
    if not found:
        wanted = "; ".join(
            f"{name}: {', '.join(column.name for column in CONTRACT[file] if column.required)}"
            for name, file in TABLES.items()
        )
        raise BadConfig(f"{option} makes no table of {', '.join(columns)}; the tables need: {wanted}")
    if len(found) > 1:
        raise BadConfig(f"{option} may be {' or '.join(found)}; add --table {found[0]}")
    return found[0]


def mapped(files: Sequence[SourceFile], mapping: dict[str, str], table: str | None) -> Assignment:
    """The reader of files by a mapping; further columns of items are kept under their own names.

    A column that is named as the contract's is taken without being mapped. Raises BadConfig where no file has a mapped
    column, or the columns make no table.
    """
    reading = [file for file in files if file.kind != "duckdb"]
    for name, column in mapping.items():
        if not any(spelling(column, file.columns_of()) for file in reading):
            raise BadConfig(f"--map {name}={column}: no file has that column ({described(files)}); name one of these")
    columns = dict.fromkeys(name for file in reading for name in file.columns_of() if "." not in name)
    taken = {column.lower() for column in mapping.values()}
    known = {column.name for file in CONTRACT.values() for column in file}
    named = {**mapping, **{name: name for name in columns if name in known and name not in mapping}}
    table = table_of(tuple(named), table, "--map")
    if table == "items":
        named |= {name: name for name in columns if name.lower() not in taken and name not in named and name}
    else:
        ours = {column.name for column in CONTRACT[TABLES[table]]}
        named = {name: column for name, column in named.items() if name in mapping or name in ours}
    one = Input(name=table, columns=named, typed=True)
    reader = Reader(name="map", title="columns by --map", inputs=(one,), tables={table: f"FROM {table}"})
    return Assignment(
        reader=reader, files={table: reading}, unread=[f for f in files if f not in reading], score=(1, 1)
    )


def queried(connection: DuckDBPyConnection, files: Sequence[SourceFile], query: str, table: str | None) -> Assignment:
    """The reader of a DuckDB query; each file is a view of its name without the ending, all of text but for parquet.

    The tables of a DuckDB file are views of their names. Raises BadConfig where the query's columns make no table.
    """
    inputs: list[Input] = []
    by_name: dict[str, list[SourceFile]] = {}
    for file in files:
        name = view_name(file.label)
        if file.kind == "duckdb":
            _attach(connection, name, file)
            continue
        columns = {column: column for column in file.columns_of() if "." not in column and column}
        inputs.append(Input(name=name, columns=columns, typed=True))
        by_name[name] = [*by_name.get(name, []), file]
    reader = Reader(
        name="query", title="a DuckDB query", inputs=tuple(inputs), tables={table or "": query.strip().rstrip(";")}
    )
    return Assignment(reader=reader, files=by_name, unread=[], score=(1, 1))


def _attach(connection: DuckDBPyConnection, name: str, file: SourceFile) -> None:
    connection.execute(f"ATTACH {literal(file.path.resolve())} AS {quoted(name)} (READ_ONLY)")
    tables = connection.execute(
        "SELECT schema_name, table_name FROM duckdb_tables() WHERE database_name = $1 UNION ALL "
        "SELECT schema_name, view_name FROM duckdb_views() WHERE database_name = $1 AND NOT internal",
        [name],
    ).fetchall()
    for schema, table in tables:
        connection.execute(f"CREATE VIEW {quoted(table)} AS FROM {quoted(name)}.{quoted(schema)}.{quoted(table)}")
