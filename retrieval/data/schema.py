"""The data contract: its files, columns and types, and the reader of parquet files that checks them."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Protocol

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from retrieval.data.column_names import renames
from retrieval.errors import BadData

ITEMS, EVENTS, QUERIES, JUDGEMENTS = "items.parquet", "events.parquet", "queries.parquet", "judgements.parquet"
RELATIONS = "relations.parquet"
PANDAS_INDEX = re.compile(r"__index_level_\d+__|Unnamed: \d+")  # row numbers that pandas adds are no attribute
BATCH_ROWS = 1 << 17  # rows that are read at once
MAGIC = b"PAR1"
UNREADABLE = (OSError, ValueError, pa.ArrowException)
COLUMNS_LISTED = 20  # column names in an error at most


class Holds(Enum):
    """The types of columns; the value is the type's name in errors."""

    ID = "string or integer"
    TEXT = "string"
    TEXTS = "string or list<string>"
    NUMBER = "double (any integer, float or decimal)"
    FLAG = "bool"
    TIME = "timestamp (any unit and time zone) or date"


@dataclass(frozen=True)
class Column:
    """One column of the contract."""

    name: str
    holds: Holds
    required: bool = False
    read: bool = True  # whether any model reads it


CONTRACT: Mapping[str, tuple[Column, ...]] = {
    ITEMS: (
        Column("item_id", Holds.ID, required=True),
        Column("title", Holds.TEXT, required=True),
        Column("category", Holds.TEXTS),
        Column("brand", Holds.TEXT),
        Column("price", Holds.NUMBER),
        Column("description", Holds.TEXT),
        Column("in_stock", Holds.FLAG),
        Column("image", Holds.TEXT, read=False),
        Column("group_id", Holds.ID),
    ),
    EVENTS: (
        Column("user_id", Holds.ID, required=True),
        Column("item_id", Holds.ID, required=True),
        Column("event", Holds.TEXT, required=True),
        Column("timestamp", Holds.TIME, required=True),
        Column("quantity", Holds.NUMBER),
        Column("price", Holds.NUMBER),
        Column("basket_id", Holds.ID),
        Column("session_id", Holds.ID, read=False),
        Column("query", Holds.TEXT),
        Column("rating", Holds.NUMBER),
        Column("review", Holds.TEXT, read=False),
    ),
    QUERIES: (
        Column("query_id", Holds.ID, required=True),
        Column("text", Holds.TEXT, required=True),
        Column("user_id", Holds.ID),
    ),
    JUDGEMENTS: (
        Column("query_id", Holds.ID, required=True),
        Column("item_id", Holds.ID, required=True),
        Column("grade", Holds.NUMBER, required=True),
        Column("split", Holds.TEXT),
    ),
    RELATIONS: (
        Column("item_id", Holds.ID, required=True),
        Column("related_id", Holds.ID, required=True),
        Column("kind", Holds.TEXT, required=True),
    ),
}


class RowSource(Protocol):
    """Rows in the columns of a file of the contract, that can be read any number of times; see ParquetSource."""

    @property
    def path(self) -> Path: ...
    @property
    def rows(self) -> int: ...
    @property
    def columns(self) -> tuple[str, ...]: ...
    @property
    def required(self) -> tuple[str, ...]: ...
    @property
    def missing(self) -> tuple[str, ...]: ...
    @property
    def extra(self) -> tuple[str, ...]: ...
    @property
    def unread(self) -> tuple[str, ...]: ...
    @property
    def renames(self) -> Mapping[str, str]: ...

    def batches(self, columns: tuple[str, ...]) -> Iterator[pa.RecordBatch]:
        """Some columns of the rows, in batches."""
        ...


@dataclass(frozen=True, kw_only=True)
class ParquetSource:
    """A parquet file whose columns agree with the contract. It can be read any number of times.

    `columns` are the contract's columns that it has (one of type null counts as missing), `required` those that it must
    have, `missing` the optional ones that it lacks, `extra` its further columns, `unread` those of the contract that no
    model reads, `renames` further columns by the missing one that each may be.
    """

    path: Path
    rows: int
    columns: tuple[str, ...]
    required: tuple[str, ...]
    missing: tuple[str, ...]
    extra: tuple[str, ...]
    unread: tuple[str, ...] = ()
    renames: Mapping[str, str] = field(default_factory=dict)

    def batches(self, columns: tuple[str, ...]) -> Iterator[pa.RecordBatch]:
        """The rows in file order, in batches of BATCH_ROWS; all text is of type `string` or `list<string>`.

        Raises:
            BadData: the file is truncated or cannot be decoded; the message names the first row that was not read.
        """
        reached = 0
        file, _ = _open_parquet(self.path)
        with file:
            batches = file.iter_batches(batch_size=BATCH_ROWS, columns=list(columns))
            while True:
                try:
                    batch = next(batches, None)
                    batch = batch and _plain_batch(batch)
                except UNREADABLE as error:
                    raise BadData(
                        f"{self.path}: cannot be read from row {reached:,} on ({_first_line(error)}); "
                        "write the file again"
                    ) from error
                if batch is None:
                    break
                yield batch
                reached += batch.num_rows
        if reached != self.rows:
            raise BadData(f"{self.path}: declares {self.rows:,} rows and holds {reached:,}; write the file again")


def open_source(folder: Path, name: str) -> ParquetSource:
    """Opens the file `name` of the data set in `folder` and checks it against the contract.

    Raises:
        BadData: the file is missing, empty, truncated, not parquet, unreadable or without rows, or a column is missing,
            named twice or of a wrong type. The message names the file, the column, what was found and what is wanted.
    """
    return open_file(folder / name, CONTRACT[name])


def open_file(path: Path, contract: tuple[Column, ...]) -> ParquetSource:
    """Opens a file of any name and checks it against `contract`. Raises as `open_source`."""
    file, schema = _open_parquet(path)
    with file:
        rows = file.metadata.num_rows
    _check_columns(path, schema, contract)
    if rows == 0:
        raise BadData(f"{path}: holds no rows; write at least one, or remove the file if it is not needed")
    present = tuple(c.name for c in contract if c.name in schema.names and not _is_void(schema, c))
    known = {column.name for column in contract}
    missing = tuple(c.name for c in contract if c.name not in present)
    extra = tuple(name for name in schema.names if name not in known and not PANDAS_INDEX.fullmatch(name))
    return ParquetSource(
        path=path,
        rows=rows,
        columns=present,
        required=tuple(c.name for c in contract if c.required),
        missing=missing,
        extra=extra,
        unread=tuple(c.name for c in contract if c.name in present and not c.read),
        renames=renames(_kind_of(contract), missing, extra),
    )


def _open_parquet(path: Path) -> tuple[pq.ParquetFile, pa.Schema]:
    fault = _fault_of_file(path)
    if fault:
        raise BadData(f"{path}: {fault}")
    try:
        file = pq.ParquetFile(path, coerce_int96_timestamp_unit="us", page_checksum_verification=True)
        return file, file.schema_arrow
    except UNREADABLE as error:
        raise BadData(f"{path}: is not readable as parquet ({_first_line(error)}); write the file again") from error


def _fault_of_file(path: Path) -> str:
    """Why a file cannot be parquet, by its size and its first and last four bytes; empty if it can."""
    if path.is_dir():
        return "is a folder; write the data set's rows into one parquet file of that name"
    try:
        with path.open("rb") as file:
            head = file.read(4)
            size = file.seek(0, 2)
            file.seek(max(0, size - 4))
            tail = file.read(4)
    except FileNotFoundError:
        return "does not exist"
    except OSError as error:
        return f"cannot be read ({error.strerror or error})"
    if size == 0:
        return "is empty (0 bytes); write the file again"
    if head != MAGIC:
        return f"is not a parquet file (it starts with {head!r}); convert it to parquet"
    if tail != MAGIC:
        return "is truncated (a parquet file without its end); write the file again"
    return ""


def _check_columns(path: Path, schema: pa.Schema, columns: tuple[Column, ...]) -> None:
    for name, times in Counter(schema.names).items():
        if times > 1:
            raise BadData(f"{path}: column {_printable(name)} occurs {times} times; keep one of them")
    lacking = [column for column in columns if column.required and column.name not in schema.names]
    if lacking:
        raise BadData(_lacks(path, schema, columns, lacking))
    for column in columns:
        if column.name not in schema.names:
            continue
        fits = holds(schema.field(column.name).type, column.holds)
        if not fits and not _is_void(schema, column):
            raise BadData(_wrong_type(path, column, schema.field(column.name).type))


def _lacks(path: Path, schema: pa.Schema, columns: tuple[Column, ...], lacking: list[Column]) -> str:
    """What a file without some of its required columns is told, with the columns that may be meant by them."""
    further = [name for name in schema.names if name not in {column.name for column in columns}]
    meant = renames(_kind_of(columns), [column.name for column in lacking], further)
    named = " and no column ".join(f"{column.name} ({column.holds.value})" for column in lacking)
    advice = [f"rename {_printable(theirs)} to {ours}" for ours, theirs in meant.items()]
    advice += ["rename or add " + ("it" if len(lacking) == 1 else "the others" if meant else "them")] * (
        len(meant) < len(lacking)
    )
    return f"{path}: has no column {named}; it has: {_listed(schema.names)}; {', '.join(advice)}"


def _kind_of(columns: tuple[Column, ...]) -> str:
    """The contract's file with these columns; empty where there is none."""
    return next((name for name, contract in CONTRACT.items() if contract == columns), "")


def _is_void(schema: pa.Schema, column: Column) -> bool:
    """Whether an optional column is of type null, as pandas writes a column of None only: it counts as missing."""
    return bool(pa.types.is_null(schema.field(column.name).type)) and not column.required


def _wrong_type(path: Path, column: Column, found: pa.DataType) -> str:
    advice = f"cast it to {column.holds.value.split(' ')[0]}"
    if column.holds is Holds.TIME and pa.types.is_integer(found):
        advice = "say what the integers count: cast(pa.timestamp('s')) for seconds since 1970, 'ms' for milliseconds"
    elif pa.types.is_null(found):
        advice = "it holds nothing but nulls; fill it"
    elif column.holds is Holds.ID and pa.types.is_floating(found):
        advice = "1.0 is no id: cast it to int64 or string, whichever the other files use"
    elif column.holds is Holds.NUMBER and _is_text(found):
        advice = "write numbers without currency and thousands separators, such as 12.99"
    elif column.holds is Holds.FLAG and _is_text(found):
        advice = 'write true or false, such as column == "in stock" in pandas'
    elif pa.types.is_nested(found):
        advice = _flattened(column, found)
    return f"{path}: column {column.name} is {found}, wanted {column.holds.value}; {advice}"


def _flattened(column: Column, found: pa.DataType) -> str:
    """How a nested column becomes one that is accepted, where a cast would fail."""
    if not _is_list(found):
        return f"write one of its fields, as a column named {column.name}"
    if column.holds is not Holds.TEXTS:
        return "write one value instead of each list, such as its first, or its texts joined by blanks"
    return "write each value of a list as one text" + (", an inner list joined by ' > '" * _is_list(found.value_type))


def holds(found: pa.DataType, wanted: Holds) -> bool:
    """Whether a column of type `found` is accepted as `wanted`; dictionaries count as their values.

    >>> holds(pa.large_string(), Holds.ID), holds(pa.float64(), Holds.ID), holds(pa.int64(), Holds.TIME)
    (True, False, False)
    """
    types = pa.types
    kind = found.value_type if types.is_dictionary(found) else found
    match wanted:
        case Holds.ID:
            return _is_text(kind) or bool(types.is_integer(kind))
        case Holds.TEXT:
            return _is_text(kind)
        case Holds.TEXTS:
            return _is_text(kind) or (_is_list(kind) and (_is_text(kind.value_type) or types.is_null(kind.value_type)))
        case Holds.NUMBER:
            return bool(types.is_integer(kind) or types.is_floating(kind) or types.is_decimal(kind))
        case Holds.FLAG:
            return bool(types.is_boolean(kind))
        case Holds.TIME:
            return bool(types.is_timestamp(kind) or types.is_date(kind))


def _is_text(kind: pa.DataType) -> bool:
    types = pa.types
    if types.is_dictionary(kind):
        return _is_text(kind.value_type)
    return bool(types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind))


def _is_list(kind: pa.DataType) -> bool:
    types = pa.types
    tests = (types.is_list, types.is_large_list, types.is_fixed_size_list, types.is_list_view, types.is_large_list_view)
    return any(test(kind) for test in tests)


def _plain_batch(batch: pa.RecordBatch) -> pa.RecordBatch:
    names = batch.schema.names
    return pa.RecordBatch.from_arrays([plain(column) for column in batch.columns], names=names)


def plain(column: pa.Array) -> pa.Array:
    """`column` in a plain type: all kinds of text as `string`, of lists of text as `list<string>`, of bytes as
    `binary`; an extension type as its storage type; others unchanged."""
    if isinstance(column, pa.ExtensionArray):
        column = column.storage
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    if pa.types.is_binary_view(column.type):
        column = column.cast(pa.binary())
    if _is_text(column.type):
        return column if pa.types.is_string(column.type) else column.cast(pa.string())
    if _is_list(column.type) and (_is_text(column.type.value_type) or pa.types.is_null(column.type.value_type)):
        wanted = pa.list_(pa.string())
        return column if column.type == wanted else _plain_list(column)
    return column


def _plain_list(column: pa.Array) -> pa.Array:
    """A list array of any layout over any kind of text as `list<string>`; null lists stay null."""
    return list_like(column, plain(pc.list_flatten(column)).cast(pa.string()))


def list_like(column: pa.Array, values: pa.Array) -> pa.Array:
    """A `list<string>` array with the list lengths of `column` and other `values` as its elements."""
    lengths = pc.fill_null(pc.list_value_length(column), 0).cast(pa.int32())
    offsets = pa.concat_arrays([pa.array([0], pa.int32()), pc.cumulative_sum(lengths)])
    return pa.ListArray.from_arrays(offsets, values, mask=column.is_null() if column.null_count else None)


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - COLUMNS_LISTED:,} more" if len(names) > COLUMNS_LISTED else ""
    return (", ".join(map(_printable, names[:COLUMNS_LISTED])) or "none") + more


def _printable(name: str) -> str:
    return name if name.isprintable() else repr(name)


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:200]
