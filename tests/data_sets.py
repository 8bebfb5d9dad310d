"""Small data sets for tests, written as parquet files; each test changes what it is about."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from retrieval.data.dataset import DataSet, load
from retrieval.errors import BadData

NOW = datetime(2024, 6, 1, tzinfo=UTC)
START = datetime(2024, 1, 1, tzinfo=UTC)
N_ITEMS, N_EVENTS, N_QUERIES = 200, 300, 120
Columns = dict[str, list[object]]


def items(**changes: object) -> Columns:
    columns: Columns = {"item_id": [f"i{n}" for n in range(N_ITEMS)], "title": [f"Mug {n}" for n in range(N_ITEMS)]}
    return {**columns, **changes}  # type: ignore[dict-item]


def events(**changes: object) -> Columns:
    columns: Columns = {
        "user_id": [f"u{n % 30}" for n in range(N_EVENTS)],
        "item_id": [f"i{n % 50}" for n in range(N_EVENTS)],
        "event": ["purchase" if n % 3 else "view" for n in range(N_EVENTS)],
        "timestamp": [START + timedelta(hours=n) for n in range(N_EVENTS)],
    }
    return {**columns, **changes}  # type: ignore[dict-item]


def queries(**changes: object) -> Columns:
    columns: Columns = {"query_id": [f"q{n}" for n in range(N_QUERIES)], "text": [f"mug {n}" for n in range(N_QUERIES)]}
    return {**columns, **changes}  # type: ignore[dict-item]


def judgements(**changes: object) -> Columns:
    columns: Columns = {
        "query_id": [f"q{n}" for n in range(N_QUERIES)],
        "item_id": [f"i{n}" for n in range(N_QUERIES)],
        "grade": [float(n % 3) for n in range(N_QUERIES)],
    }
    return {**columns, **changes}  # type: ignore[dict-item]


def shop(folder: Path, **files: Columns | pa.Table | None) -> Path:
    """A good data set of items and events, with files replaced or, by None, left out."""
    for name, columns in {"items": items(), "events": events(), **files}.items():
        if columns is not None:
            table = columns if isinstance(columns, pa.Table) else pa.table(columns)
            pq.write_table(table, folder / f"{name}.parquet")
    return folder


def searches(folder: Path, **files: Columns | None) -> Path:
    return shop(folder, **{"events": None, "queries": queries(), "judgements": judgements(), **files})


def replaced(values: list[object], row: int, value: object) -> list[object]:
    return [*values[:row], value, *values[row + 1 :]]


def one_finding(dataset: DataSet, file: int) -> tuple[str, str, int, int, str]:
    (finding,) = dataset.report.files[file].findings
    return finding.rule, finding.action, finding.rows, finding.first_row, finding.value


def refusal(folder: Path, **options: object) -> str:
    with pytest.raises(BadData) as caught:
        load(folder, now=NOW, **options)  # type: ignore[arg-type]
    line = str(caught.value)
    assert "\n" not in line
    assert len(line) < 700
    return line
