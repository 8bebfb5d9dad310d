"""The registry of readers: which exports `shortlist import` knows by their columns.

A reader is a declaration: the columns that it reads of each kind of file, and one SQL query a table of the contract. A
module in `retrieval/importing/readers/` is found by itself, one of another package by the entry-point group
`shortlist.readers`.
"""

from __future__ import annotations

import pkgutil
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from importlib.metadata import entry_points

from retrieval.data.schema import EVENTS, ITEMS, JUDGEMENTS, QUERIES
from retrieval.errors import BadConfig

GROUP = "shortlist.readers"  # entry-point group
TABLES: Mapping[str, str] = {
    "items": ITEMS,
    "events": EVENTS,
    "queries": QUERIES,
    "judgements": JUDGEMENTS,
}  # the name of a table: its file in the data set


@dataclass(frozen=True, kw_only=True)
class Input:
    """One kind of file of an export, which the SQL of a reader reads as a view.

    name: the name of the view.
    columns: the view's columns, each with the name that it has in the file; other spellings follow after ` | `. In
        JSON and in structs of parquet, dots lead inwards: `ecommerce.transaction_id`. A column that the files lack is
        null. Every value is text, nested ones are JSON text; blanks around it are gone, empty is null.
    required: the columns of the view, separated by blanks, that a file must have to be read as this input.
    rows: in JSON, the key of the list whose elements are the rows; an object without that key is a row itself.
    file: for files without a header: a pattern of the file's name such as `ratings.dat`, whose columns are then named
        by `header`, with `delimiter` between them and without quotes.
    optional: whether other sources have such files, too: the reader is not recognised by this input alone.
    typed: whether values of parquet keep their types.
    """

    name: str
    columns: Mapping[str, str]
    required: str = ""
    rows: str = ""
    file: str = ""
    header: str = ""
    delimiter: str = ""
    optional: bool = False
    typed: bool = False


@dataclass(frozen=True, kw_only=True)
class Reader:
    """The declaration of a reader.

    name: what `--from` takes. title: what people call the source.
    inputs: the kinds of files. A view whose files are not there has no rows.
    tables: for each table of the contract (`items`, `events`, `queries`, `judgements`) the query that makes its rows.
        A column of text where the contract wants a number, a time, a flag or a category is read as one, whatever its
        spelling. A row whose column `left_out` is not null is left out, and counted under that reason; one whose
        column `note` is not null is kept, and counted. A column `seconds_later` is added to the timestamp, for returns
        whose own time is not told. Further columns become attributes of items.
    setup: statements that run before the queries, such as macros of this reader.
    """

    name: str
    title: str
    inputs: tuple[Input, ...]
    tables: Mapping[str, str]
    setup: str = ""


_READERS: dict[str, Reader] = {}


def register_reader(reader: Reader) -> Reader:
    """Registers a reader under its name. Raises BadConfig where the name is taken."""
    if _READERS.setdefault(reader.name, reader) is not reader:
        raise BadConfig(f"a reader named {reader.name} is already registered; choose another name")
    return reader


def readers() -> tuple[Reader, ...]:
    """All registered readers, by name."""
    _load()
    return tuple(_READERS[name] for name in sorted(_READERS))


def reader_named(name: str) -> Reader:
    """The reader of a name. Raises BadConfig, which lists those that there are."""
    for reader in readers():
        if reader.name == name:
            return reader
    raise BadConfig(f"--from {name}: no such reader; there are: {', '.join(one.name for one in readers())}")


@cache
def _load() -> None:
    """Imports all modules that declare readers: those of this package, then those of entry points."""
    package = import_module("retrieval.importing.readers")
    for module in pkgutil.iter_modules(package.__path__):
        import_module(f"{package.__name__}.{module.name}")
    for entry in entry_points(group=GROUP):
        entry.load()
