"""Patches: files of item_id and some further columns, as parquet or CSV, that change those columns alone."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv

from retrieval.data.audit import FileAudit
from retrieval.data.checks import LARGEST, as_mask, blank_controls, screen_ids
from retrieval.data.items import NewestRows, is_parquet
from retrieval.data.schema import CONTRACT, ITEMS, Column, ParquetSource, RowSource, open_file
from retrieval.errors import BadData

PATCH: tuple[Column, ...] = tuple(replace(column, required=column.name == "item_id") for column in CONTRACT[ITEMS])
TRUE, FALSE = ("true", "True", "TRUE", "1", "yes", "y"), ("false", "False", "FALSE", "0", "no", "n")
BATCH = 1 << 16


@dataclass(frozen=True, kw_only=True)
class CsvSource(ParquetSource):
    """A CSV file, read whole, that is audited as parquet is."""

    table: pa.Table

    def batches(self, columns: tuple[str, ...]) -> Iterator[pa.RecordBatch]:
        """See ParquetSource."""
        yield from self.table.select(list(columns)).combine_chunks().to_batches(max_chunksize=BATCH)


def open_patch(path: Path, schema: pa.Schema) -> ParquetSource:
    """Opens a patch of items whose columns have the types of `schema`.

    Raises BadData for a file that cannot be read, without item_id, or without any other column; for one that the items
    do not have; and for a CSV value that is not of its column's type.
    """
    source = open_file(path, PATCH) if is_parquet(path) else _open_csv(path, schema)
    names = [name for name in (*source.columns, *source.extra) if name != "item_id"]
    further = [name for name in names if name not in schema.names]
    if further:
        raise BadData(
            f"{path}: the index has no column {further[0]}; it has: {', '.join(schema.names)}; drop it, or build the "
            "index again with it"
        )
    if not names:
        raise BadData(f"{path}: has no column beside item_id; add what is to change, such as price")
    return source


def read_patch(audit: FileAudit) -> pa.Table:
    """The usable rows of a patch, item_id string first; null where a value is to stay.

    Rows without an id, with an id of a newer row, or with an impossible price are set aside. A blank title is null.
    """
    columns = tuple(dict.fromkeys(("item_id", *audit.source.columns, *audit.source.extra)))
    newest, batches = _last_rows(audit.source), []
    for screen in audit.screens(columns):
        clean = {"item_id": screen_ids(screen, "item_id")}
        screen.drop(newest.rule, newest.older(clean["item_id"], screen.first_row), "item_id")
        if "price" in columns:
            values = screen.column("price").cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False)
            given = as_mask(screen.column("price").is_valid())
            screen.drop("price that is impossible", given & ~((values >= 0) & (values <= LARGEST)), "price")
        if "title" in columns:
            title = blank_controls(screen.column("title"))
            blank = pc.equal(pc.utf8_length(pc.utf8_trim_whitespace(title)), 0)
            clean["title"] = pc.if_else(blank, pa.scalar(None, title.type), title)
        kept = pa.array(~screen.dropped)
        arrays = [clean.get(name, screen.column(name)).filter(kept) for name in columns]
        batches.append(pa.RecordBatch.from_arrays(arrays, names=list(columns)))
    return pa.Table.from_batches(batches)


def patched(patch: pa.Table, before: pa.Table, path: str) -> pa.Table:
    """Items as they were before with the values of a patch of the same rows where it has some.

    Raises BadData, naming the column, for one of another type.
    """
    columns = []
    for field in before.schema:
        if field.name == "item_id" or field.name not in patch.column_names:
            columns.append(before[field.name])
            continue
        try:
            given = patch[field.name].cast(field.type).combine_chunks()
        except pa.ArrowException as error:
            found = patch.schema.field(field.name).type
            raise BadData(
                f"{path}: column {field.name} is {found}, the index has it as {field.type}; cast it"
            ) from error
        both = pa.concat_arrays([given, before[field.name].combine_chunks()])
        rows = np.arange(len(given))
        columns.append(both.take(pa.array(np.where(as_mask(given.is_valid()), rows, rows + len(given)))))
    return pa.table(columns, schema=before.schema)


def _last_rows(source: RowSource) -> NewestRows:
    ids = [batch["item_id"].cast(pa.string()) for batch in source.batches(("item_id",))]
    last = {name: row for row, name in enumerate(pa.chunked_array(ids, pa.string()).to_pylist())}
    return NewestRows(last, "item_id repeated; the last row counts")


def _open_csv(path: Path, schema: pa.Schema) -> CsvSource:
    try:
        with path.open("rb") as file:
            header = file.readline().decode("utf-8-sig", "replace")
        parse = pa_csv.ParseOptions(delimiter=max(",;\t", key=header.count), newlines_in_values=True)
        names = pa_csv.open_csv(path, parse_options=parse).schema.names
        nested = [name for name in names if name in schema.names and pa.types.is_nested(schema.field(name).type)]
        if nested:
            raise BadData(f"{path}: column {nested[0]} holds lists, which CSV cannot; give it as parquet")
        types = {name: schema.field(name).type for name in names if name in schema.names} | {"item_id": pa.string()}
        options = pa_csv.ConvertOptions(
            column_types=types, strings_can_be_null=True, true_values=TRUE, false_values=FALSE, null_values=[""]
        )
        table = pa_csv.read_csv(path, parse_options=parse, convert_options=options)
    except (OSError, pa.ArrowException) as error:
        reason = str(error).splitlines()[0] if not isinstance(error, OSError) else error.strerror or str(error)
        raise BadData(
            f"{path}: cannot be read as CSV ({reason}); write a line of column names, item_id among them, and a line "
            "for each item, commas between values"
        ) from error
    if "item_id" not in names:
        raise BadData(f"{path}: has no column item_id; it has: {', '.join(names)}; rename or add it")
    if not table.num_rows:
        raise BadData(f"{path}: holds no rows; write at least one")
    known = [column.name for column in PATCH]
    return CsvSource(
        path=path,
        rows=table.num_rows,
        columns=tuple(name for name in known if name in names),
        required=("item_id",),
        missing=(),
        extra=tuple(name for name in names if name not in known),
        table=table,
    )
