"""Reading items.parquet into a clean table, and files that list item ids."""

from __future__ import annotations

import csv
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from retrieval.data.audit import Bools, FileAudit, Screen
from retrieval.data.checks import as_mask, blank_controls, screen_amount, screen_ids, screen_markup, screen_text
from retrieval.data.column_names import update_column
from retrieval.data.schema import CONTRACT, ITEMS, MAGIC, Column, Holds, RowSource
from retrieval.errors import BadData

QUOTED = re.compile(r'"(?:[^"]|"")+"')
ITEM_IDS = (Column("item_id", Holds.ID, required=True),)
_HOLDS = {column.name: column.holds for column in CONTRACT[ITEMS]}
_ONE_LINE = ("brand", "category")
_RENDERED = (*_ONE_LINE, "description")


def read_items(audit: FileAudit) -> pa.Table:
    """The usable items in file order: the contract's columns that the file has, then its further columns.

    Items without an id or a readable title are set aside. Of rows with the same id the newest counts, by a column such
    as `updated_at` where there is one, else the last; the others are set aside. An impossible price is left out, and
    the item is kept. Titles, brands, categories and descriptions lose their markup, and all but descriptions have
    blanks for control characters. Types: `item_id`, `title`, `brand`, `description`, `image`, `group_id` string;
    `price` double, null where unknown; `category` string or list<string>; `in_stock` bool.
    """
    columns = (*audit.source.columns, *audit.source.extra)
    newest = newest_rows(audit.source)
    batches = [_clean(screen, columns, newest, str(audit.source.path)) for screen in audit.screens(columns)]
    return pa.Table.from_batches(batches)


@dataclass(frozen=True)
class NewestRows:
    """Of each id that several usable rows of a file have, the row that counts; `rule` says how it was chosen."""

    rows: Mapping[str, int]
    rule: str

    def older(self, ids: pa.Array, first_row: int) -> Bools:
        """Mask of the rows of a batch, of ids string [n] from `first_row` on, that another row replaces, bool [n]."""
        if not self.rows:
            return np.zeros(len(ids), bool)
        counted = [self.rows.get(name, row) for row, name in enumerate(ids.to_pylist(), first_row)]
        older: Bools = np.array(counted, np.int64) != np.arange(first_row, first_row + len(ids))
        return older


def newest_rows(source: RowSource) -> NewestRows:
    """The rows that count of ids that a file has more than once; reads the ids, and more only where some repeat."""
    ids = [batch["item_id"].cast(pa.string()) for batch in source.batches(("item_id",))]
    counts = pa.chunked_array(ids, pa.string()).value_counts()
    repeated = counts.field("values").filter(pc.greater(counts.field("counts"), 1))
    by = update_column(source.extra) if len(repeated) else None
    if by is None:
        return NewestRows(_newest(source, repeated, None), "item_id repeated; the last row counts")
    try:
        return NewestRows(_newest(source, repeated, by), f"item_id repeated; the row with the newest {by} counts")
    except pa.ArrowException:
        return NewestRows(_newest(source, repeated, None), f"item_id repeated; the last row counts ({by} is no time)")


def _newest(source: RowSource, repeated: pa.Array, by: str | None) -> dict[str, int]:
    """The row of each of the ids `repeated` with the latest time `by`, among equal ones the last."""
    best: dict[str, tuple[int, int]] = {}
    first_row = 0
    columns = ("item_id", "title") if by is None else ("item_id", "title", by)
    for batch in source.batches(columns) if len(repeated) else ():
        screen = Screen(batch, first_row)
        ids = screen_ids(screen, "item_id")
        screen_text(screen, "title")
        rows = np.flatnonzero(~screen.dropped & as_mask(pc.is_in(ids, repeated)))
        times = np.zeros(screen.n, np.int64) if by is None else _instants(screen.column(by))
        for row, name in zip(rows.tolist(), ids.take(pa.array(rows)).to_pylist(), strict=True):
            best[name] = max(best.get(name, (times[row], 0)), (int(times[row]), first_row + row))
        first_row += screen.n
    return {name: row for name, (_, row) in best.items()}


def _instants(column: pa.Array) -> NDArray[np.int64]:
    """Times, dates, ISO texts or integers as numbers that sort like them, int64 [n], the smallest for null.

    Raises `pyarrow.ArrowException` for anything else.
    """
    if pa.types.is_string(column.type):
        try:
            column = column.cast(pa.timestamp("us", "UTC"))  # texts with an offset
        except pa.ArrowException:
            column = column.cast(pa.timestamp("us"))
    elif not pa.types.is_integer(column.type):
        column = column.cast(pa.timestamp("us", getattr(column.type, "tz", None)), safe=False)
    values = column.cast(pa.int64()).fill_null(np.iinfo(np.int64).min)
    return np.asarray(values.to_numpy(zero_copy_only=False), np.int64)


def read_item_ids(audit: FileAudit) -> list[str]:
    """The distinct item ids of a parquet file in the contract `ITEM_IDS`; rows without an id are set aside."""
    ids: dict[str, None] = {}
    for screen in audit.screens(("item_id",)):
        column = screen_ids(screen, "item_id")
        ids |= dict.fromkeys(column.filter(pa.array(~screen.dropped)).to_pylist())
    return list(ids)


def item_ids_of_lines(path: Path) -> list[str]:
    """The distinct item ids of a text file, one per line, or of the column item_id of a CSV file.

    A line in double quotes is read as CSV, too. Raises BadData where it is not UTF-8 or holds no ids.
    """
    try:
        lines = path.read_text("utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise BadData(f"{path}: cannot be read ({reason}); write one item id a line, or parquet of item_id") from error
    lines = [line.strip() for line in lines if line.strip()]
    delimiter = max(",;\t", key=lines[0].count) if lines else ","
    names = [name.strip() for name in next(csv.reader(lines[:1], delimiter=delimiter), [])]
    if "item_id" in names:
        at = names.index("item_id")
        rows = csv.reader(lines[1:], delimiter=delimiter)
        ids = dict.fromkeys(row[at].strip() for row in rows if len(row) > at and row[at].strip())
    else:
        ids = dict.fromkeys(next(csv.reader([line]))[0] if QUOTED.fullmatch(line) else line for line in lines)
    if not ids:
        raise BadData(f"{path}: holds no item ids; write one a line, or leave the file out")
    return list(ids)


def is_parquet(path: Path) -> bool:
    """Whether a file is parquet, by its suffix or its first bytes; False where it cannot be read."""
    if path.suffix == ".parquet":
        return True
    try:
        with path.open("rb") as file:
            return file.read(len(MAGIC)) == MAGIC
    except OSError:
        return False


def _clean(screen: Screen, columns: tuple[str, ...], newest: NewestRows, path: str) -> pa.RecordBatch:
    clean = {"item_id": screen_ids(screen, "item_id"), "title": screen_text(screen, "title")}
    screen.drop(newest.rule, newest.older(clean["item_id"], screen.first_row), "item_id")
    if "price" in columns:
        clean["price"] = pa.array(screen_amount(screen, "price"), from_pandas=True)
    kept = pa.array(~screen.dropped)
    arrays = []
    for name in columns:
        try:
            arrays.append((clean[name] if name in clean else _column(screen, name)).filter(kept))
        except pa.ArrowException as error:
            kind = screen.column(name).type
            raise BadData(
                f"{path}: column {name} is {kind}, which cannot be filtered; cast it or leave it out"
            ) from error
    return pa.RecordBatch.from_arrays(arrays, names=list(columns))


def _column(screen: Screen, name: str) -> pa.Array:
    column = screen_markup(screen, name) if name in _RENDERED else screen.column(name)
    if name in _ONE_LINE:
        return blank_controls(column)
    return column.cast(pa.string()) if _HOLDS.get(name) in (Holds.TEXT, Holds.ID) else column
