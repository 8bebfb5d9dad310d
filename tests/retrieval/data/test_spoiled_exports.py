"""Exports as shops spoil them: `check` names each fault with a remedy, and the remedy works when it is followed."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from data_sets import N_EVENTS, N_ITEMS, NOW, START, Columns, events, items, judgements, queries, replaced, shop
from retrieval.data.dataset import check, load
from retrieval.data.split import split_events
from retrieval.errors import ShortlistError

Change = Callable[[pa.Table], pa.Table]
Remedy = Callable[[Path, str], dict[str, Any]]


class Spoiled(NamedTuple):
    """A data set with a fault: how its files differ from good ones, what is told, and what then is done.

    The remedy is given the folder and the line that was told, and returns options for the next check.
    """

    files: dict[str, Columns | pa.Table | None]
    told: tuple[str, ...]
    remedy: Remedy


def renamed(file: str) -> Remedy:
    """Follows every "rename X to Y"; at a comma, a semicolon or the end of the line a name ends."""

    def follow(folder: Path, line: str) -> dict[str, Any]:
        names = dict(re.findall(r"rename (\S+) to (\w+)", line))
        table = pq.read_table(folder / file)
        pq.write_table(table.rename_columns([names.get(name, name) for name in table.column_names]), folder / file)
        return {}

    return follow


def changed(file: str, column: str, change: Callable[[pa.ChunkedArray], Any]) -> Remedy:
    """Writes a column again."""

    def follow(folder: Path, line: str) -> dict[str, Any]:
        table = pq.read_table(folder / file)
        at = table.column_names.index(column)
        pq.write_table(table.set_column(at, column, pa.chunked_array([pa.array(change(table[column]))])), folder / file)
        return {}

    return follow


def cast(file: str, column: str, wanted: pa.DataType) -> Remedy:
    return changed(file, column, lambda values: values.cast(wanted).combine_chunks())


def raised(folder: Path, line: str) -> dict[str, Any]:
    """Gives the limit that the line names the value that it names."""
    option, share = re.findall(r"raise --(max-\w+) to ([\d.]+)", line)[0]
    return {option.replace("-", "_"): float(share)}


def moved(folder: Path, line: str) -> dict[str, Any]:
    """Follows "rename FILE to FILE"."""
    old, new = re.findall(r"rename (\S+) to (\w+\.parquet)", line)[0]
    (folder / old).rename(folder / new)
    return {}


def removed(folder: Path, line: str) -> dict[str, Any]:
    """Follows "take FILE away"."""
    (folder / re.findall(r"take (\S+) away", line)[0]).unlink()
    return {}


def columns(table: Columns, **names: str) -> Columns:
    """The columns of a table, some of them named otherwise."""
    return {names.get(name, name): values for name, values in table.items()}


def euros(values: pa.ChunkedArray) -> list[float]:
    return [float(text.removesuffix(" EUR").replace(".", "").replace(",", ".")) for text in values.to_pylist()]


MOMENTS = [START + timedelta(hours=n) for n in range(N_EVENTS)]
MILLISECONDS = [int(moment.timestamp() * 1000) for moment in MOMENTS]
EXPORTS = {
    "ids and titles are called sku and name": Spoiled(
        {"items": columns(items(), item_id="sku", title="name")},
        ("no column item_id", "no column title", "rename sku to item_id", "rename name to title"),
        renamed("items.parquet"),
    ),
    "a German catalogue": Spoiled(
        {"items": columns(items(), item_id="Artikel-Nr", title="Bezeichnung")},
        ("rename Artikel-Nr to item_id", "rename Bezeichnung to title"),
        renamed("items.parquet"),
    ),
    "a Chinese catalogue": Spoiled(
        {"items": columns(items(), item_id="商品编号", title="商品名")},
        ("rename 商品编号 to item_id", "rename 商品名 to title"),
        renamed("items.parquet"),
    ),
    "an optional column by another name": Spoiled(
        {"items": items(Preis=[2.0] * N_ITEMS)},
        ("Preis may be price", "rename it to price"),
        lambda folder, line: renamed("items.parquet")(folder, "rename Preis to price"),
    ),
    "a misspelt column": Spoiled(
        {"events": columns(events(), timestamp="timestmap")},
        ("no column timestamp", "rename timestmap to timestamp"),
        renamed("events.parquet"),
    ),
    "an event log of a Shopify app": Spoiled(
        {"events": columns(events(), user_id="customer", item_id="product_id", event="type", timestamp="createdAt")},
        (
            "rename customer to user_id",
            "rename product_id to item_id",
            "rename type to event",
            "rename createdAt to timestamp",
        ),
        renamed("events.parquet"),
    ),
    "times as milliseconds": Spoiled(
        {"events": events(timestamp=MILLISECONDS)},
        ("column timestamp is int64", "'ms' for milliseconds"),
        cast("events.parquet", "timestamp", pa.timestamp("ms")),
    ),
    "milliseconds taken for seconds": Spoiled(
        {"events": pa.table({**events(), "timestamp": pa.array(MILLISECONDS, pa.timestamp("s"))})},
        ("timestamp in the future", "count milliseconds or microseconds"),
        changed(
            "events.parquet",
            "timestamp",
            lambda values: pa.array([one // 1_000 for one in values.cast(pa.int64()).to_pylist()], pa.timestamp("ms")),
        ),
    ),
    "times as text": Spoiled(
        {"events": events(timestamp=[moment.isoformat() for moment in MOMENTS])},
        ("column timestamp is string", "cast it to timestamp"),
        cast("events.parquet", "timestamp", pa.timestamp("us", "UTC")),
    ),
    "ids as decimal numbers": Spoiled(
        {"events": events(user_id=[float(n % 30) for n in range(N_EVENTS)])},
        ("column user_id is double", "cast it to int64 or string"),
        cast("events.parquet", "user_id", pa.int64()),
    ),
    "prices with a currency": Spoiled(
        {"items": items(price=["1.299,00 EUR"] * N_ITEMS)},
        ("column price is string", "write numbers without currency and thousands separators, such as 12.99"),
        changed("items.parquet", "price", euros),
    ),
    "labels in place of grades": Spoiled(
        {"queries": queries(), "judgements": judgements(grade=["Exact"] * 120)},
        ("column grade is string", "write numbers"),
        changed("judgements.parquet", "grade", lambda values: [3.0] * len(values)),
    ),
    "an item more than once": Spoiled(
        {"items": items(item_id=[f"i{n if n < 190 else 60}" for n in range(N_ITEMS)])},
        ("10 x item_id repeated; the last row counts", "raise --max-bad to 0.05 to go on without them"),
        raised,
    ),
    "events of items that are gone": Spoiled(
        {"items": {name: values[:40] for name, values in items().items()}},
        ("60 x item_id not in items.parquet", "raise --max-unknown to 0.2 to go on without them"),
        raised,
    ),
    "ids with zeros in front in one file alone": Spoiled(
        {
            "items": items(item_id=[f"{n:05}" for n in range(N_ITEMS)]),
            "events": events(item_id=[n % 50 for n in range(N_EVENTS)]),
        },
        ("none of its 300 rows is usable", "items.parquet has ids such as '00000'", "write the same ids into both"),
        changed("events.parquet", "item_id", lambda values: [f"{n:05}" for n in values.to_pylist()]),
    ),
    "titles that are missing": Spoiled(
        {"items": items(title=[None] * 20 + [f"Mug {n}" for n in range(20, N_ITEMS)])},
        ("20 x title null or blank", "raise --max-bad to 0.1 to go on without them"),
        lambda folder, line: raised(folder, line) | {"max_unknown": 0.5},
    ),
    "prices below nothing": Spoiled(
        {"items": items(price=[-1.0] * 50 + [1.0] * 150)},
        ("50 x price negative", "raise --max-bad to 0.25 to go on without these values"),
        raised,
    ),
    "nobody knows the kinds": Spoiled(
        {"events": events(event=["listen" if n % 2 else "skip" for n in range(N_EVENTS)])},
        ("listen (150), skip (150)", "--set data.target_events='[\"listen\"]'"),
        lambda folder, line: {"target_events": re.findall(r"target_events='\[\"(\w+)\"\]'", line)},
    ),
    "the catalogue has another name": Spoiled(
        {"items": None, "Products": items()},
        ("has no items.parquet", "rename Products.parquet to items.parquet"),
        moved,
    ),
    "the log has another name": Spoiled(
        {"events": None, "orders": events()},
        ("has neither events.parquet nor queries.parquet", "rename orders.parquet to events.parquet"),
        moved,
    ),
    "queries without judgements": Spoiled(
        {"queries": queries()},
        ("has queries.parquet but no judgements.parquet", "take queries.parquet away"),
        removed,
    ),
    "folds by other names": Spoiled(
        {"queries": queries(), "judgements": judgements(split=["dev", "train", "test"] * 40)},
        ("40 x split other than train, valid or test", "'dev'"),
        changed(
            "judgements.parquet", "split", lambda values: pc.replace_substring(values.combine_chunks(), "dev", "valid")
        ),
    ),
    "a user column of nothing": Spoiled(
        {"events": events(user_id=pa.nulls(N_EVENTS))},
        ("column user_id is null", "it holds nothing but nulls; fill it"),
        changed("events.parquet", "user_id", lambda values: ["u1", "u2", "u3"] * (N_EVENTS // 3)),
    ),
}


@pytest.mark.parametrize("name", EXPORTS)
def test_a_fault_is_named_and_its_remedy_works(tmp_path: Path, name: str) -> None:
    spoiled = EXPORTS[name]
    line = told_of(shop(tmp_path, **spoiled.files))
    assert [part for part in spoiled.told if part not in line] == []
    options = spoiled.remedy(tmp_path, line)
    targets = options.pop("target_events", None)
    data = load(tmp_path, now=NOW, **options)
    assert split_events(data, target_events=targets).folds if data.events is not None else data.judgements
    again = told_of(tmp_path, **options)
    assert targets or "--max" in line or [part for part in spoiled.told if part in again] == []


def told_of(folder: Path, **options: Any) -> str:
    """The refusal of a data set, in one line, or else what the report says that is not a mere count."""
    try:
        report = check(folder, now=NOW, **options)
        report.raise_if_refused()
    except ShortlistError as error:
        return str(error)
    return "; ".join(report.lines())


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (lambda whole: b"", "is empty (0 bytes); write the file again"),
        (lambda whole: whole[: len(whole) // 2], "is truncated"),
        (
            lambda whole: b"item_id,title\n1,Mug\n",
            "is not a parquet file (it starts with b'item'); convert it to parquet",
        ),
        (lambda whole: whole[:200] + b"\xff" * 400 + whole[600:], "write the file again"),
    ],
)
def test_a_damaged_file_is_named_and_writing_it_again_helps(
    tmp_path: Path, spoil: Callable[[bytes], bytes], told: str
) -> None:
    path = shop(tmp_path) / "items.parquet"
    whole = path.read_bytes()
    path.write_bytes(spoil(whole))
    assert told in told_of(tmp_path)
    path.write_bytes(whole)
    assert "the data set is usable" in told_of(tmp_path)


def test_what_is_read_otherwise_than_it_stands_is_named(tmp_path: Path) -> None:
    table = events(
        event=["Order Completed"] * N_EVENTS,
        quantity=replaced([1.0] * N_EVENTS, 3, -1.0),
        rating=[1.0 if n < 30 else 5.0 for n in range(N_EVENTS)],
        session_id=["s"] * N_EVENTS,
    )
    told = told_of(shop(tmp_path, items=items(description=["<p>Fine</p>"] * N_ITEMS), events=table))
    for part in (
        "200 x description with HTML", "1 x quantity negative in an event that is no return", "read as a return",
        "read by no model: session_id", "29 more left out for a rating below 3", "target events: Order Completed",
    ):  # fmt: skip
        assert part in told


def test_a_limit_that_was_raised_as_told_is_enough(tmp_path: Path) -> None:
    stamps = [datetime(1980, 1, 1, tzinfo=UTC) if n % 7 == 0 else moment for n, moment in enumerate(MOMENTS)]
    line = told_of(shop(tmp_path, events=events(timestamp=stamps)))
    assert "timestamp before 1990" in line
    assert load(tmp_path, now=NOW, **raised(tmp_path, line)).events is not None
