"""What an import understood, what it left out, and what it wrote."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field

from retrieval.data.check_report import Json
from retrieval.importing.registry import TABLES

VALUE_WIDTH = 60  # characters of a value that are shown
COLUMNS_SHOWN = 15  # names of columns in a line


@dataclass(frozen=True, kw_only=True)
class Counted:
    """Rows with one thing in common, and an example of them."""

    what: str
    rows: int
    example: str = ""

    def __str__(self) -> str:
        return f"{self.rows:,} x {self.what}" + (f" (first: {self.example})" if self.example else "")


@dataclass(frozen=True, kw_only=True)
class TableReport:
    """One table: its rows that were written, the first three of them, and what was left out, counted by reason.

    left_out: rows that the reader does not want, such as drafts. rejected: rows that could not be read. lost: values
    that could not be read, of rows that were kept. notes: what is special of rows that were kept. assumed: what was
    decided for a whole column.
    """

    name: str
    rows: int
    columns: tuple[str, ...]
    first_rows: Sequence[Mapping[str, object]]
    left_out: tuple[Counted, ...]
    rejected: tuple[Counted, ...]
    lost: tuple[Counted, ...]
    notes: tuple[Counted, ...]
    assumed: tuple[str, ...]

    def lines(self) -> list[str]:
        """The table as text."""
        lines = [f"{self.name}: {self.rows:,} rows with {', '.join(self.columns)}"]
        lines += [f"  {_row(row)}" for row in self.first_rows]
        for label, counted in (
            ("left out", self.left_out),
            ("not readable, row set aside", self.rejected),
            ("not readable, value left out", self.lost),
            ("note", self.notes),
        ):
            lines += [f"  {label}: {one}" for one in counted]
        return lines + [f"  assumed: {one}" for one in self.assumed]


@dataclass(frozen=True, kw_only=True)
class ImportReport:
    """A whole import: `files` says which file was read as what, `unread` why others were not."""

    source: str
    reader: str
    out: str
    files: Mapping[str, str]
    unread: Mapping[str, str]
    unused_columns: Mapping[str, Sequence[str]]
    encodings: Mapping[str, str]
    tables: tuple[TableReport, ...]
    rejected: Sequence[str] = field(default=())

    def lines(self) -> list[str]:
        """The import as text, line by line."""
        lines = [f"read as {self.source}:"]
        for label, told in self.files.items():
            encoding = self.encodings.get(label)
            lines.append(f"  {label}: {told}" + (f", in {encoding}" if encoding else ""))
            if names := self.unused_columns.get(label):
                more = f" and {len(names) - COLUMNS_SHOWN} more" if len(names) > COLUMNS_SHOWN else ""
                lines.append(f"    columns not read: {', '.join(names[:COLUMNS_SHOWN])}{more}")
        lines += [f"  {label}: not read, {why}" for label, why in self.unread.items()]
        for table in self.tables:
            lines += table.lines()
        written = ", ".join(f"{TABLES[table.name]} ({table.rows:,} rows)" for table in self.tables if table.rows)
        lines.append(f"wrote {written} to {self.out}")
        lines += [f"rows that could not be read are in {path}" for path in self.rejected]
        return [*lines, f"next: shortlist check {self.out}"]

    def to_dict(self) -> dict[str, Json]:
        """The import as JSON."""
        return asdict(self)


def _row(row: Mapping[str, object]) -> str:
    return ", ".join(f"{name}={_shown(value)}" for name, value in row.items() if value is not None)


def _shown(value: object) -> str:
    text = " > ".join(map(str, value)) if isinstance(value, list) else str(value)
    text = " ".join(text.split())
    return text if len(text) <= VALUE_WIDTH else f"{text[:VALUE_WIDTH]}..."
