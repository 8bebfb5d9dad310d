"""Bad rows of a data set are counted, shown and set aside up to a limit, above it refused in one line."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from data_sets import (
    N_EVENTS,
    N_ITEMS,
    N_QUERIES,
    NOW,
    START,
    Columns,
    events,
    items,
    judgements,
    one_finding,
    queries,
    refusal,
    replaced,
    searches,
    shop,
)
from retrieval.dataset import check, load
from retrieval.errors import BadConfig, BadData

# what is wrong in a few rows


@pytest.mark.parametrize(
    ("column", "value", "rule", "action", "kept"),
    [
        ("item_id", None, "item_id null or empty", "row set aside", N_ITEMS - 1),
        ("item_id", "", "item_id null or empty", "row set aside", N_ITEMS - 1),
        ("item_id", "i150", "item_id repeated", "row set aside", N_ITEMS - 1),
        ("title", None, "title null or blank", "row set aside", N_ITEMS - 1),
        ("title", " \t\u00a0", "title null or blank", "row set aside", N_ITEMS - 1),
        ("title", "\x00\x1b\u200b", "title null or blank", "row set aside", N_ITEMS - 1),
        ("title", "x" * 1_000_000, "title of more than 100,000 bytes", "row set aside", N_ITEMS - 1),
        ("title", "Mug\x1b[2J\x00", "title with control characters", "text cleaned", N_ITEMS),
        ("price", float("nan"), "price negative, infinite or not a number", "value left out", N_ITEMS),
        ("price", -1.0, "price negative, infinite or not a number", "value left out", N_ITEMS),
        ("price", float("inf"), "price negative, infinite or not a number", "value left out", N_ITEMS),
    ],
)
def test_a_bad_item_is_counted_and_shown(
    tmp_path: Path, column: str, value: object, rule: str, action: str, kept: int
) -> None:
    table = items(price=[2.0] * N_ITEMS)
    if value == "i150":
        table["item_id"] = replaced(table["item_id"], 150, "other")
        table["item_id"] = replaced(table["item_id"], 3, "i150")
        table["item_id"] = replaced(table["item_id"], 199, "i150")
    else:
        table[column] = replaced(table[column], 199, value)
    dataset = load(shop(tmp_path, items=table), now=NOW)
    assert one_finding(dataset, 0)[:4] == (rule, action, 1, 199)
    assert len(one_finding(dataset, 0)[4]) < 400
    assert dataset.n_items == kept
    assert dataset.report.files[0].verdict == "within limits"


def test_of_repeated_items_the_first_usable_one_stays(tmp_path: Path) -> None:
    table = items(item_id=replaced(items()["item_id"], 180, "i4"), title=replaced(items()["title"], 180, "Other"))
    assert load(shop(tmp_path, items=table), now=NOW).items["title"][4].as_py() == "Mug 4"
    table["title"] = replaced(table["title"], 4, " ")
    later = load(shop(tmp_path, items=table), now=NOW)
    assert later.items["title"][later.item_ids.index("i4")].as_py() == "Other"


def test_an_item_with_an_impossible_price_stays_without_it(tmp_path: Path) -> None:
    dataset = load(shop(tmp_path, items=items(price=replaced([2.0] * N_ITEMS, 5, float("nan")))), now=NOW)
    assert dataset.items["price"][5].as_py() is None
    assert dataset.items["price"].null_count == 1


def test_control_characters_never_reach_a_title(tmp_path: Path) -> None:
    dataset = load(shop(tmp_path, items=items(title=replaced(items()["title"], 0, "Mug\x1b[2J\u0085blue"))), now=NOW)
    assert dataset.items["title"][0].as_py() == "Mug [2J blue"


@pytest.mark.parametrize(
    ("column", "value", "rule"),
    [
        ("user_id", None, "user_id null or empty"),
        ("item_id", " ", "item_id null or empty"),
        ("event", None, "event null or empty"),
        ("timestamp", None, "timestamp null"),
        ("timestamp", datetime(1970, 1, 1, tzinfo=UTC), "timestamp before 1990"),
        ("timestamp", datetime(1, 1, 1, tzinfo=UTC), "timestamp before 1990"),
        ("timestamp", NOW + timedelta(days=1, seconds=1), "timestamp in the future"),
        ("timestamp", datetime(9999, 12, 31, tzinfo=UTC), "timestamp in the future"),
    ],
)
def test_a_bad_event_is_set_aside(tmp_path: Path, column: str, value: object, rule: str) -> None:
    dataset = load(shop(tmp_path, events=events(**{column: replaced(events()[column], 70, value)})), now=NOW)
    assert dataset.events is not None
    assert one_finding(dataset, 1)[:4] == (rule, "row set aside", 1, 70)
    assert len(dataset.events) == N_EVENTS - 1


def test_tomorrow_is_not_yet_the_future(tmp_path: Path) -> None:
    moments = replaced(events()["timestamp"], 0, NOW + timedelta(hours=23))
    assert load(shop(tmp_path, events=events(timestamp=moments)), now=NOW).report.files[1].verdict == "good"
    naive = NOW.replace(tzinfo=None)
    assert load(tmp_path, now=naive).report.files[1].verdict == "good"


@pytest.mark.parametrize("unit", ["ms", "us", "ns"])
@pytest.mark.parametrize("ticks", [2**63 - 1, -(2**63) + 1])
def test_times_that_no_calendar_holds_are_set_aside(tmp_path: Path, unit: str, ticks: int) -> None:
    moments = pa.array(events()["timestamp"], pa.timestamp(unit)).cast(pa.int64()).to_pylist()
    column = pa.array([ticks, *moments[1:]]).view(pa.timestamp(unit))
    dataset = load(shop(tmp_path, events=events(timestamp=column)), now=NOW, rejected=tmp_path / "rejected.parquet")
    assert dataset.events is not None
    assert len(dataset.events) == N_EVENTS - 1
    assert pq.read_table(tmp_path / "rejected.parquet").num_rows == 1


@pytest.mark.parametrize("column", ["quantity", "price"])
@pytest.mark.parametrize("value", [float("nan"), float("-inf"), -2.0])
def test_an_event_with_an_impossible_amount_stays_without_it(tmp_path: Path, column: str, value: float) -> None:
    dataset = load(shop(tmp_path, events=events(**{column: replaced([3.0] * N_EVENTS, 0, value)})), now=NOW)
    assert dataset.events is not None
    assert one_finding(dataset, 1)[1:4] == ("value left out", 1, 0)
    assert len(dataset.events) == N_EVENTS
    amounts = getattr(dataset.events, column)
    assert (amounts == 3).sum() == N_EVENTS - 1


def test_a_return_may_carry_a_minus_sign(tmp_path: Path) -> None:
    table = events(event=replaced(events()["event"], 9, "Return"), quantity=replaced([1] * N_EVENTS, 9, -4))
    dataset = load(shop(tmp_path, events=table), now=NOW)
    assert dataset.events is not None
    assert not dataset.report.files[1].findings
    assert dataset.events.quantity[dataset.events.is_return()].tolist() == [4.0]


@pytest.mark.parametrize(
    ("column", "value", "rule"),
    [
        ("grade", None, "grade null, infinite or not a number"),
        ("grade", float("nan"), "grade null, infinite or not a number"),
        ("query_id", None, "query_id null or empty"),
        ("split", "dev", "split other than train, valid or test"),
        ("split", None, "split other than train, valid or test"),
        ("query_id", "nope", "query_id not in queries.parquet"),
        ("item_id", "nope", "item_id not in items.parquet"),
    ],
)
def test_a_bad_judgement_is_set_aside(tmp_path: Path, column: str, value: object, rule: str) -> None:
    table = judgements(split=["train", " Valid", "test"] * (N_QUERIES // 3))
    table[column] = replaced(table[column], 50, value)
    dataset = load(searches(tmp_path, judgements=table), now=NOW)
    assert dataset.judgements is not None
    assert one_finding(dataset, 2)[:4] == (rule, "row set aside", 1, 50)
    assert len(dataset.judgements) == N_QUERIES - 1


def test_a_pair_judged_twice_keeps_its_first_grade(tmp_path: Path) -> None:
    table = judgements(
        query_id=replaced(judgements()["query_id"], 101, "q1"), item_id=replaced(judgements()["item_id"], 101, "i1")
    )
    dataset = load(searches(tmp_path, judgements=table), now=NOW)
    assert one_finding(dataset, 2)[0] == "query and item judged before"


def test_a_blank_query_is_set_aside_and_its_judgements_with_it(tmp_path: Path) -> None:
    dataset = load(searches(tmp_path, queries=queries(text=replaced(queries()["text"], 7, "\t"))), now=NOW)
    assert one_finding(dataset, 1)[0] == "text null or blank"
    assert one_finding(dataset, 2)[0] == "query_id not in queries.parquet"


def broken(values: list[str], row: int) -> pa.Array:
    return pa.array([text.encode() if n != row else b"caf\xe9" for n, text in enumerate(values)], pa.binary()).view(
        pa.string()
    )


def test_text_that_is_not_utf8_is_shown_in_escapes(tmp_path: Path) -> None:
    table = items(title=broken(items()["title"], 8), brand=broken(items()["title"], 9))  # type: ignore[arg-type]
    dataset = load(shop(tmp_path, items=table), now=NOW, rejected=tmp_path / "rejected.parquet")
    found = {f.rule: (f.action, f.first_row, f.value) for f in dataset.report.files[0].findings}
    assert found["title that is not UTF-8"] == ("row set aside", 8, r"'caf\\xe9'")
    assert found["brand that is not UTF-8"] == ("value left out", 9, r"'caf\\xe9'")
    assert dataset.items.filter(pa.compute.equal(dataset.items["item_id"], "i9"))["brand"].to_pylist() == [None]
    rows = pq.read_table(tmp_path / "rejected.parquet").to_pylist()
    assert json.loads(rows[0]["record"])["title"] == r"caf\xe9"


def test_a_list_with_text_that_is_not_utf8_is_left_out(tmp_path: Path) -> None:
    flat = broken([f"c{n}" for n in range(N_ITEMS)], 11)
    lists = pa.ListArray.from_arrays(pa.array(range(N_ITEMS + 1), pa.int32()), flat)
    dataset = load(shop(tmp_path, items=items(category=lists)), now=NOW, rejected=tmp_path / "rejected.parquet")
    assert one_finding(dataset, 0)[:4] == ("category that is not UTF-8", "value left out", 1, 11)
    assert dataset.items["category"].to_pylist()[10:13] == [["c10"], None, ["c12"]]


# limits


def test_more_bad_rows_than_the_limit_refuse_in_one_line(tmp_path: Path) -> None:
    titles: list[object] = [None, None, "\x00", *items()["title"][3:]]
    line = refusal(shop(tmp_path, items=items(title=titles)), rejected=tmp_path / "rejected.parquet")
    assert "3 of 200 rows (1.5 %) are bad, more than 1 %" in line
    assert "3 x title null or blank (first: row 0, null)" in line
    assert "--max-bad" in line
    assert not list(tmp_path.glob("*rejected*"))


def test_exactly_the_limit_passes(tmp_path: Path) -> None:
    titles: list[object] = [None, None, *items()["title"][2:]]
    assert load(shop(tmp_path, items=items(title=titles)), now=NOW).n_items == N_ITEMS - 2


def test_the_limit_is_a_strict_share_of_a_tiny_file_too(tmp_path: Path) -> None:
    tiny: Columns = {"item_id": [f"i{n}" for n in range(20)], "title": [None, *(["Mug"] * 19)]}
    told = events(item_id=["i5"] * N_EVENTS)
    assert "1 of 20 rows (5 %)" in refusal(shop(tmp_path, items=tiny, events=told))
    assert load(tmp_path, now=NOW, max_bad=0.05).n_items == 19


def test_unknown_items_have_their_own_limit(tmp_path: Path) -> None:
    few = replaced(events()["item_id"], 0, "gone")
    many: list[object] = [f"gone{n}" if n % 5 == 0 else item for n, item in enumerate(events()["item_id"])]
    dataset = load(shop(tmp_path, events=events(item_id=["gone"] * 30 + few[30:])), now=NOW)
    assert dataset.report.files[1].unknown == 30
    assert dataset.report.files[1].bad == 0
    line = refusal(shop(tmp_path, events=events(item_id=many)))
    assert "60 of 300 rows (20 %)" in line
    assert "'gone0'" in line
    assert "--max-unknown" in line
    assert load(tmp_path, now=NOW, max_unknown=0.2).events is not None


@pytest.mark.parametrize(
    "change",
    [
        {"items": items(item_id=["i0"] * N_ITEMS)},
        {"items": items(title=["x" * 200_000] * 3 + items()["title"][3:])},
        {"items": items(title=["a\x01b"] * N_ITEMS)},
        {"items": items(price=[float("nan")] * N_ITEMS)},
        {"events": events(user_id=[""] * N_EVENTS)},
        {"events": events(timestamp=[NOW + timedelta(days=9)] * N_EVENTS)},
        {"events": events(item_id=["x"] * N_EVENTS)},
    ],
    ids=["duplicates", "long titles", "control characters", "NaN prices", "null ids", "future", "unknown items"],
)
def test_every_kind_of_bad_row_refuses_above_its_limit(tmp_path: Path, change: dict[str, Columns]) -> None:
    folder = shop(tmp_path, **change)
    assert "% of" not in refusal(folder)
    report = check(folder, now=NOW)
    assert not report.ok
    assert refusal(folder) == report.refusals[0]


def test_a_file_without_a_usable_row_is_refused_whatever_the_limit(tmp_path: Path) -> None:
    folder = shop(tmp_path, items=items(title=[" "] * N_ITEMS), events=None)
    assert "no usable row" in refusal(folder, max_bad=1.0, require_interactions=False)


@pytest.mark.parametrize("options", [{"max_bad": 1.5}, {"max_unknown": -0.1}, {"max_bad": float("nan")}])
def test_impossible_limits_are_refused(tmp_path: Path, options: dict[str, float]) -> None:
    with pytest.raises(BadConfig, match="between 0 and 1"):
        load(shop(tmp_path), now=NOW, **options)  # type: ignore[arg-type]


def test_as_many_kinds_of_event_as_events_are_refused(tmp_path: Path) -> None:
    n = 2_000
    table: Columns = {
        "user_id": ["u"] * n,
        "item_id": ["i1"] * n,
        "event": [f"e{k}" for k in range(n)],
        "timestamp": [START] * n,
    }
    assert "more than 1,000 distinct values" in refusal(shop(tmp_path, events=table))


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
    with pytest.raises(BadConfig, match="cannot set bad rows aside"):
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


def test_times_that_count_steps_from_1970_are_taken(tmp_path: Path) -> None:
    steps = [datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=n) for n in range(N_EVENTS)]
    dataset = load(shop(tmp_path, events=events(timestamp=steps)), now=NOW)
    assert dataset.events is not None
    assert len(dataset.events) == N_EVENTS
