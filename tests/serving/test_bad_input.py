"""Bad data through the command: one clear line, exit 2, nothing half-written."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import TypeAlias

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from serving.cli.app import app

Spoil: TypeAlias = Callable[[Path], None]


def with_column(name: str, column: str, change: Callable[[list[object]], Sequence[object]]) -> Spoil:
    """Changes the values of one column."""

    def spoil(folder: Path) -> None:
        table = pq.read_table(folder / name)
        field = table.schema.field(column)
        values = pa.array(change(table[column].to_pylist()), field.type)
        pq.write_table(table.set_column(table.column_names.index(column), field, values), folder / name)

    return spoil


def some(value: object, share: int = 3) -> Callable[[list[object]], list[object]]:
    """Every third value replaced."""
    return lambda values: [value if row % share == 0 else old for row, old in enumerate(values)]


def without_column(folder: Path) -> None:
    table = pq.read_table(folder / "items.parquet")
    pq.write_table(table.drop_columns(["title"]), folder / "items.parquet")


def of_wrong_type(folder: Path) -> None:
    table = pq.read_table(folder / "events.parquet")
    at = table.column_names.index("timestamp")
    words = pa.array(["yesterday"] * table.num_rows)
    pq.write_table(table.set_column(at, "timestamp", words), folder / "events.parquet")


def repeated(folder: Path) -> None:
    table = pq.read_table(folder / "items.parquet")
    pq.write_table(pa.concat_tables([table, table]), folder / "items.parquet")


def empty_file(folder: Path) -> None:
    (folder / "items.parquet").write_bytes(b"")


def no_rows(folder: Path) -> None:
    table = pq.read_table(folder / "events.parquet")
    pq.write_table(table.slice(0, 0), folder / "events.parquet")


def not_parquet(folder: Path) -> None:
    (folder / "items.parquet").write_text("item_id,title\n1,Mug\n")


def truncated(folder: Path) -> None:
    whole = (folder / "events.parquet").read_bytes()
    (folder / "events.parquet").write_bytes(whole[: len(whole) // 2])


def torn_inside(folder: Path) -> None:
    whole = bytearray((folder / "events.parquet").read_bytes())
    whole[200:1200] = bytes(1000)
    (folder / "events.parquet").write_bytes(whole)


def no_items(folder: Path) -> None:
    (folder / "items.parquet").unlink()


def only_items(folder: Path) -> None:
    for path in folder.glob("[!i]*.parquet"):
        path.unlink()


LATER = datetime.now() + timedelta(days=400)
CASES: dict[str, tuple[Spoil, tuple[str, ...]]] = {
    "missing column": (without_column, ("items.parquet", "title")),
    "wrong type": (of_wrong_type, ("events.parquet", "timestamp")),
    "null ids": (with_column("items.parquet", "item_id", some(None)), ("items.parquet", "item_id", "--max-bad")),
    "duplicate items": (repeated, ("items.parquet", "item_id repeated; the last row counts", "--max-bad")),
    "unknown items": (
        with_column("events.parquet", "item_id", some("no such item")),
        ("events.parquet", "no such item", "--max-unknown"),
    ),
    "empty file": (empty_file, ("items.parquet", "empty")),
    "no rows": (no_rows, ("events.parquet", "no rows")),
    "not parquet": (not_parquet, ("items.parquet", "not a parquet file")),
    "truncated": (truncated, ("events.parquet", "truncated")),
    "torn inside": (torn_inside, ("events.parquet", "write the file again")),
    "NaN price": (with_column("items.parquet", "price", some(float("nan"))), ("items.parquet", "price", "--max-bad")),
    "1 MB title": (
        with_column("items.parquet", "title", some("mug " * 250_000)),
        ("items.parquet", "title", "100,000 bytes"),
    ),
    "control characters": (
        with_column("items.parquet", "title", some("mug \x00\x1b[31m red")),
        ("items.parquet", "control characters"),
    ),
    "future dates": (with_column("events.parquet", "timestamp", some(LATER)), ("events.parquet", "timestamp")),
    "no items": (no_items, ("items.parquet",)),
    "only items": (only_items, ("events.parquet", "judgements.parquet")),
}


@pytest.fixture
def folder(sample_folder: Path, tmp_path: Path) -> Path:
    """A copy of the sample to spoil."""
    copy = tmp_path / "data"
    copy.mkdir()
    for path in sample_folder.glob("*.parquet"):
        (copy / path.name).write_bytes(path.read_bytes())
    return copy


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("command", ["check", "run", "adopt"])
def test_bad_data_are_one_line_exit_2_and_nothing_written(
    case: str, command: str, folder: Path, tmp_path: Path
) -> None:
    if (command, case) == ("adopt", "only items"):
        pytest.skip("a catalogue alone can be adopted")
    spoil, named = CASES[case]
    spoil(folder)
    before = sorted(tmp_path.rglob("*"))
    arguments = {
        "check": ["check", folder],
        "run": ["run", tmp_path / "bundle", "--data", folder],
        "adopt": ["adopt", tmp_path / "bundle", "--data", folder, "--encoder", tmp_path / "encoder"],
    }[command]
    told = CliRunner().invoke(app, [str(part) for part in arguments])
    errors = [line for line in told.stderr.splitlines() if line.startswith("error: ")]
    assert told.exit_code == 2, told.output
    assert len(errors) == 1
    assert all(part in errors[0] for part in named), errors[0]
    assert len(errors[0]) < 600
    assert errors[0].isprintable()
    assert "Traceback" not in told.output
    assert sorted(tmp_path.rglob("*")) == before


def test_bad_rows_within_the_limit_are_told_and_not_fatal(folder: Path) -> None:
    with_column("items.parquet", "item_id", some(None, 100))(folder)
    told = CliRunner().invoke(app, ["check", str(folder), "--max-bad", "0.05"])
    assert told.exit_code == 0
    assert "within limits" in told.stdout
