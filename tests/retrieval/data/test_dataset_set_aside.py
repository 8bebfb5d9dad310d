"""Whatever a data set holds, a row is kept or set aside; those set aside are written whole, with what was wrong."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from data_sets import N_EVENTS, N_ITEMS, NOW, START, events, items, replaced, shop
from retrieval.data.dataset import check, load
from retrieval.errors import BadConfig, BadData

# the rows set aside


def test_every_rejected_row_is_written_with_file_row_rule_and_record(tmp_path: Path) -> None:
    prices = replaced([2.0] * N_ITEMS, 5, float("nan"))
    folder = shop(
        tmp_path,
        items=items(price=prices, title=replaced(items()["title"], 6, "\x00")),
        events=events(item_id=replaced(events()["item_id"], 1, "gone")),
    )
    aside = tmp_path / "out" / "rejected.parquet"
    load(folder, now=NOW, rejected=aside)
    rows = {(row["file"], row["row"]): row for row in pq.read_table(aside).to_pylist()}
    of_item_6 = {("events.parquet", n) for n in range(6, N_EVENTS, 50)}
    assert set(rows) == {("items.parquet", 5), ("items.parquet", 6), ("events.parquet", 1)} | of_item_6
    assert json.loads(rows["items.parquet", 5]["record"]) == {"item_id": "i5", "title": "Mug 5", "price": "nan"}
    assert rows["items.parquet", 5]["action"] == "value left out"
    assert json.loads(rows["events.parquet", 1]["record"])["timestamp"].startswith("2024-01-01 01:00")
    assert [path.name for path in aside.parent.iterdir()] == ["rejected.parquet"]


def test_nothing_is_written_where_nothing_is_bad_and_an_old_file_goes(tmp_path: Path) -> None:
    aside = tmp_path / "rejected.parquet"
    load(
        shop(
            tmp_path, items=items(title=replaced(items()["title"], 0, None)), events=events(item_id=["i5"] * N_EVENTS)
        ),
        now=NOW,
        rejected=aside,
    )
    assert aside.exists()
    load(shop(tmp_path), now=NOW, rejected=aside)
    assert not aside.exists()


def test_a_place_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    shop(tmp_path, items=items(title=replaced(items()["title"], 0, None)))
    with pytest.raises(BadConfig, match="cannot write bad rows"):
        load(tmp_path, now=NOW, rejected=tmp_path / "file" / "rejected.parquet")


# anything at all


def any_array(kind: pa.DataType, n: int) -> st.SearchStrategy[pa.Array]:
    values: dict[str, st.SearchStrategy[object]] = {
        "string": st.text(max_size=8),
        "int64": st.integers(-(2**63), 2**63 - 1),
        "double": st.floats(),
        "bool": st.booleans(),
        "binary": st.binary(max_size=4),
    }
    one = values.get(str(kind), st.integers(-(2**63), 2**63 - 1))
    column = st.lists(st.none() | one, min_size=n, max_size=n)
    if pa.types.is_timestamp(kind):
        return column.map(lambda ticks: pa.array(ticks, pa.int64()).view(kind))
    return column.map(lambda cells: pa.array(cells, kind))


FITTING = {
    "item_id": [pa.string(), pa.int64()],
    "user_id": [pa.string(), pa.int64()],
    "timestamp": [pa.timestamp("us"), pa.timestamp("ns", "UTC")],
    "price": [pa.float64(), pa.int64()],
    "quantity": [pa.float64(), pa.int64()],
    "colour": [pa.bool_(), pa.binary(), pa.string()],
}


def any_table(names: tuple[str, ...], n: int = 4) -> st.SearchStrategy[pa.Table]:
    columns = {
        name: st.sampled_from(FITTING.get(name, [pa.string()])).flatmap(lambda kind: any_array(kind, n))
        for name in names
    }
    return st.fixed_dictionaries(columns).map(pa.table)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    things=any_table(("item_id", "title", "price", "brand", "colour")),
    told=any_table(("user_id", "item_id", "event", "timestamp", "quantity", "query")),
    lenient=st.booleans(),
)
def test_whatever_the_columns_hold_it_loads_or_refuses_in_one_line(
    tmp_path: Path, things: pa.Table, told: pa.Table, lenient: bool
) -> None:
    limit = 1.0 if lenient else 0.01
    folder = shop(tmp_path, items=things, events=told)
    aside = tmp_path / "rejected.parquet"
    line = ""
    try:
        dataset = load(folder, now=NOW, max_bad=limit, max_unknown=limit, rejected=aside)
        json.dumps(dataset.report.to_dict(), allow_nan=False)
        assert dataset.items.num_rows == dataset.n_items > 0
    except BadData as error:
        line = str(error)
    assert "\n" not in line
    assert not list(tmp_path.glob(".*"))


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    users=st.lists(st.sampled_from(["u", "ü", "", None]), min_size=12, max_size=12),
    bought=st.lists(st.sampled_from(["i1", "i2", "gone", "", None]), min_size=12, max_size=12),
    hours=st.lists(st.none() | st.integers(-400_000, 400_000), min_size=12, max_size=12),
)
def test_every_event_is_either_kept_or_set_aside(
    tmp_path: Path, users: list[str | None], bought: list[str | None], hours: list[int | None]
) -> None:
    moments = [None if hour is None else START + timedelta(hours=hour) for hour in hours]
    table = pa.table(
        {
            "user_id": pa.array(users, pa.string()),
            "item_id": pa.array(bought, pa.string()),
            "event": ["view"] * 12,
            "timestamp": pa.array(moments, pa.timestamp("us", "UTC")),
        }
    )
    report = check(shop(tmp_path, events=table), now=NOW, max_bad=1, max_unknown=1).files[1]
    shops_began, told = datetime(1990, 1, 1, tzinfo=UTC), [moment for moment in moments if moment]
    counts_steps = sum(moment < shops_began for moment in told) * 2 > len(told)
    first = datetime(1970, 1, 1, tzinfo=UTC) if counts_steps else shops_began
    good = [
        u and i in ("i1", "i2") and t and first <= t <= NOW + timedelta(days=1)
        for u, i, t in zip(users, bought, moments, strict=True)
    ]
    assert report.kept == sum(map(bool, good))
    assert report.kept + report.bad + report.unknown == report.rows == 12
    assert sum(finding.rows for finding in report.findings) == report.rows - report.kept
