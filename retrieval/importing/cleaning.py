"""The values of a table's columns in the types of the contract, decided by column, and which were unreadable."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from retrieval.data.schema import CONTRACT, Column, Holds
from retrieval.importing.registry import TABLES
from retrieval.importing.views import TEXT, quoted

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

ROW, LEFT_OUT, NOTE, LATER = "row_", "left_out", "note", "seconds_later"  # columns that say something of a row
_CODE = re.compile(r"gtin|ean\d*\b|\bean|upc|bar_?code|isbn|mpn|sku|code|id\"$")  # names of columns of codes
_WHOLE = r"^(0|-?[1-9]\d{0,17})$"
_DECIMAL = r"^-?(0|[1-9]\d*)(\.\d+)?$"


@dataclass(frozen=True, kw_only=True)
class Cleaned:
    """The columns of a table as they are written.

    values: SQL of each column. unreadable: SQL that is true where a text could not be read as what its column holds.
    assumed: what was decided for a whole column, in words.
    """

    values: Mapping[str, str]
    unreadable: Mapping[str, str]
    assumed: tuple[str, ...]


def cleaned(
    connection: DuckDBPyConnection, table: str, relation: str, types: Mapping[str, str], day_first: bool | None
) -> Cleaned:
    """How the columns of `relation`, of the given types, become those of the table's contract.

    `day_first` says how `03/04/2024` is meant; None: as the other times of the column say, else the month first.
    """
    contract = {column.name: column for column in CONTRACT[TABLES[table]]}
    values: dict[str, str] = {}
    unreadable: dict[str, str] = {}
    assumed: list[str] = []
    for name, kind in types.items():
        if name in (ROW, LEFT_OUT, NOTE, LATER):
            continue
        column = contract.get(name)
        if column is None:
            values[name] = _attribute(connection, relation, quoted(name), kind)
            continue
        values[name], told = _value(connection, relation, column, kind, day_first)
        assumed += told
        if kind == TEXT and column.holds in (Holds.NUMBER, Holds.TIME, Holds.FLAG):
            unreadable[name] = f"({quoted(name)} IS NOT NULL AND ({values[name]}) IS NULL)"
    if LATER in types and "timestamp" in values:
        values["timestamp"] = f"({values['timestamp']}) + to_seconds(coalesce({LATER}, 0))"
    values = {name: values[name] for name in (*contract, *values) if name in values}  # ours first, in our order
    return Cleaned(values=values, unreadable=unreadable, assumed=tuple(assumed))


def _value(
    connection: DuckDBPyConnection, relation: str, column: Column, kind: str, day_first: bool | None
) -> tuple[str, list[str]]:
    name = quoted(column.name)
    match column.holds:
        case Holds.ID:
            whole = f"CAST(CAST({name} AS HUGEINT) AS {TEXT})"
            return (
                f"CASE WHEN {name} = floor({name}) THEN {whole} END" if kind in ("DOUBLE", "FLOAT") else _text(name)
            ), []
        case Holds.NUMBER if kind == TEXT:
            comma = _more(connection, relation, name, r",\d{1,2}(\D|$)", r"\.\d{1,2}(\D|$)")
            told = [f"{column.name}: a comma is the decimal sign"] if comma else []
            return f"read_number({name}, {str(comma).lower()})", told
        case Holds.NUMBER:
            return f"CAST({name} AS DOUBLE)", []
        case Holds.FLAG:
            return (f"read_flag({name})" if kind == TEXT else f"CAST({name} AS BOOLEAN)"), []
        case Holds.TIME if kind == TEXT:
            return _time(connection, relation, column.name, day_first)
        case Holds.TIME:
            zoned = "WITH TIME ZONE" in kind
            return (f"CAST(timezone('UTC', {name}) AS TIMESTAMP)" if zoned else f"CAST({name} AS TIMESTAMP)"), []
        case Holds.TEXTS:
            return (name if kind.endswith("[]") else f"read_path(CAST({name} AS {TEXT}))"), []
        case _:
            return _text(name), []


def _text(name: str) -> str:
    return f"blank_to_null(CAST({name} AS {TEXT}))"


def _time(connection: DuckDBPyConnection, relation: str, column: str, day_first: bool | None) -> tuple[str, list[str]]:
    name, told = quoted(column), []
    if day_first is None:
        parts = r"^(1[3-9]|2\d|3[01])[/-]\d{1,2}[/-]\d", r"^\d{1,2}[/-](1[3-9]|2\d|3[01])[/-]\d"
        day_first = _more(connection, relation, name, *parts)
        slashes, month_first = (
            _any(connection, relation, name, one) for one in (r"^\d{1,2}[/-]\d{1,2}[/-]\d", parts[1])
        )
        if slashes and not day_first and not month_first:
            told = [f"{column}: dates such as 03/04/2024 have the month first (else add --day-first)"]
    return f"read_time({name}, {str(day_first).lower()})", told


def _more(connection: DuckDBPyConnection, relation: str, name: str, one: str, other: str) -> bool:
    """Whether more values of a column match the pattern `one` than `other`."""
    row = connection.execute(
        f"SELECT count(*) FILTER (regexp_matches({name}, $1)), count(*) FILTER (regexp_matches({name}, $2)) "
        f"FROM {relation}",
        [one, other],
    ).fetchone()
    return bool(row and row[0] > row[1])


def _any(connection: DuckDBPyConnection, relation: str, name: str, pattern: str) -> bool:
    return _more(connection, relation, name, pattern, "^$.")


def _attribute(connection: DuckDBPyConnection, relation: str, name: str, kind: str) -> str:
    """A further column: text that is only numbers becomes numbers, unless they are codes, by name or a leading zero."""
    if kind != TEXT or _CODE.search(name.lower()):
        return (
            f"CAST(to_json({name}) AS {TEXT})" if kind.startswith(("STRUCT", "MAP")) or kind.endswith("[][]") else name
        )
    for pattern, wanted in ((_WHOLE, "BIGINT"), (_DECIMAL, "DOUBLE")):
        row = connection.execute(
            f"SELECT bool_and(regexp_matches({name}, $1)) FROM {relation} WHERE {name} IS NOT NULL", [pattern]
        ).fetchone()
        if row and row[0]:
            return f"CAST({name} AS {wanted})"
    return _text(name)
