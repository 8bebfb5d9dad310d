"""What to type for files that no reader knows: the mapping that the names of their columns suggest."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence

from retrieval.data.column_names import renames
from retrieval.data.schema import CONTRACT
from retrieval.importing.registry import TABLES

PLACEHOLDER = "COLUMN"


def proposed_options(columns: Sequence[str], view: str) -> str:
    """The options that read a file of these columns as the table that it seems to be.

    Orders without a column for the kind of event are read by a query of the file's view, as purchases. A required
    column without a likely one is left to be filled in.

    >>> proposed_options(["SKU", "Product name", "Price", "colour"], "catalogue")
    "--map 'item_id=SKU,title=Product name,price=Price'"
    >>> print(proposed_options(["customer", "sku", "date"], "orders"))
    --query "SELECT customer AS user_id, sku AS item_id, date AS timestamp, 'purchase' AS event FROM orders"
    """
    usable = [name for name in columns if name and not set(",=.") & set(name)]
    found = {table: renames(file, [column.name for column in CONTRACT[file]], usable) for table, file in TABLES.items()}
    lacking = {table: [name for name in _required(table) if name not in mapping] for table, mapping in found.items()}
    complete = [table for table in TABLES if not lacking[table]]
    if complete:
        best = max(complete, key=lambda table: (len(_required(table)), len(found[table])))
        return _map(found[best])
    if lacking["events"] == ["event"]:
        return _query(found["events"], view)
    best = min(TABLES, key=lambda table: (len(lacking[table]), -len(found[table])))
    return _map(found[best] | dict.fromkeys(lacking[best], PLACEHOLDER))


def _required(table: str) -> list[str]:
    return [column.name for column in CONTRACT[TABLES[table]] if column.required]


def _map(mapping: Mapping[str, str]) -> str:
    return "--map " + shlex.quote(",".join(f"{ours}={theirs}" for ours, theirs in mapping.items()))


def _query(mapping: Mapping[str, str], view: str) -> str:
    named = [f"{_quoted(theirs)} AS {ours}" for ours, theirs in mapping.items()]
    query = f"SELECT {', '.join(named)}, 'purchase' AS event FROM {_quoted(view)}"
    return "--query " + (shlex.quote(query) if set('"$`\\!') & set(query) else f'"{query}"')


def _quoted(name: str) -> str:
    return name if name.isidentifier() and name.isascii() else '"' + name.replace('"', '""') + '"'
