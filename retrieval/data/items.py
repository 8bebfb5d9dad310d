"""Reading items.parquet into a clean table, and files that list item ids."""

from __future__ import annotations

from collections.abc import Hashable
from pathlib import Path

import pyarrow as pa

from retrieval.data.audit import FileAudit, Screen
from retrieval.data.checks import blank_controls, screen_amount, screen_ids, screen_repeats, screen_text
from retrieval.data.schema import CONTRACT, ITEMS, MAGIC, Column, Holds
from retrieval.errors import BadData

ITEM_IDS = (Column("item_id", Holds.ID, required=True),)
_HOLDS = {column.name: column.holds for column in CONTRACT[ITEMS]}
_SHOWN_TEXT = ("brand", "category")


def read_items(audit: FileAudit) -> pa.Table:
    """The usable items in file order: the contract's columns that the file has, then its further columns.

    Items without an id, with the id of an earlier item or without a readable title are set aside. An impossible price
    is left out, and the item is kept. Control characters in titles, brands and categories become blanks. Types:
    `item_id`, `title`, `brand`, `description`, `image` string; `price` double, null where unknown; `category` string or
    list<string>; `in_stock` bool.
    """
    columns = (*audit.source.columns, *audit.source.extra)
    seen: set[Hashable] = set()
    batches = [_clean(screen, columns, seen, str(audit.source.path)) for screen in audit.screens(columns)]
    return pa.Table.from_batches(batches)


def read_item_ids(audit: FileAudit) -> list[str]:
    """The distinct item ids of a parquet file in the contract `ITEM_IDS`; rows without an id are set aside."""
    ids: dict[str, None] = {}
    for screen in audit.screens(("item_id",)):
        column = screen_ids(screen, "item_id")
        ids |= dict.fromkeys(column.filter(pa.array(~screen.dropped)).to_pylist())
    return list(ids)


def item_ids_of_lines(path: Path) -> list[str]:
    """The distinct item ids of a text file, one per line. Raises BadData where it is not UTF-8 or holds none."""
    try:
        lines = path.read_text("utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise BadData(f"{path}: cannot be read ({reason}); write one item id a line, or parquet of item_id") from error
    ids = dict.fromkeys(line.strip() for line in lines if line.strip())
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


def _clean(screen: Screen, columns: tuple[str, ...], seen: set[Hashable], path: str) -> pa.RecordBatch:
    clean = {"item_id": screen_ids(screen, "item_id"), "title": screen_text(screen, "title")}
    screen_repeats(screen, clean["item_id"].to_pylist(), seen, "item_id repeated", "item_id")
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
    column = screen.column(name)
    if name in _SHOWN_TEXT:
        return blank_controls(column)
    return column.cast(pa.string()) if _HOLDS.get(name) is Holds.TEXT else column
