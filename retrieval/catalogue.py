"""Reading items.parquet into one clean table."""

from __future__ import annotations

from collections.abc import Hashable

import pyarrow as pa

from retrieval.errors import BadData
from retrieval.rows import FileAudit, Screen
from retrieval.schema import CONTRACT, ITEMS, Holds
from retrieval.screening import blank_controls, screen_amount, screen_ids, screen_repeats, screen_text

_HOLDS = {column.name: column.holds for column in CONTRACT[ITEMS]}
_SHOWN_TEXT = ("brand", "category")


def read_items(audit: FileAudit) -> pa.Table:
    """The usable items in file order: the contract's columns that the file has, then its further ones.

    An item without an id or with an earlier item's id, or without a readable title, is set aside. An impossible price
    is left out and the item stays. Control characters in titles, brands and categories become blanks. Types: `item_id`,
    `title`, `brand`, `description`, `image` string; `price` double, null where unknown; `category` string or
    list<string>; `in_stock` bool.
    """
    columns = (*audit.source.columns, *audit.source.extra)
    seen: set[Hashable] = set()
    batches = [_clean(screen, columns, seen, str(audit.source.path)) for screen in audit.screens(columns)]
    return pa.Table.from_batches(batches)


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
