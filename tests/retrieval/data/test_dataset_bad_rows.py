"""Bad rows of a data set are counted and shown, and set aside or cleaned."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from data_sets import (
    N_EVENTS,
    N_ITEMS,
    N_QUERIES,
    NOW,
    events,
    items,
    judgements,
    one_finding,
    queries,
    replaced,
    searches,
    shop,
)
from retrieval.data.dataset import load
from retrieval.text.rendering import item_texts


@pytest.mark.parametrize(
    ("column", "value", "rule", "action", "kept"),
    [
        ("item_id", None, "item_id null or empty", "row set aside", N_ITEMS - 1),
        ("item_id", "", "item_id null or empty", "row set aside", N_ITEMS - 1),
        ("item_id", "i150", "item_id repeated; the last row counts", "row set aside", N_ITEMS - 1),
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
        table["item_id"] = replaced(table["item_id"], 199, "i150")
    else:
        table[column] = replaced(table[column], 199, value)
    dataset = load(shop(tmp_path, items=table), now=NOW)
    assert one_finding(dataset, 0)[:4] == (rule, action, 1, 150 if value == "i150" else 199)
    assert len(one_finding(dataset, 0)[4]) < 400
    assert dataset.n_items == kept
    assert dataset.report.files[0].verdict == "within limits"


def test_of_repeated_items_the_last_usable_one_counts(tmp_path: Path) -> None:
    table = items(item_id=replaced(items()["item_id"], 180, "i4"), title=replaced(items()["title"], 180, "Other"))

    def title() -> object:
        data = load(shop(tmp_path, items=table), now=NOW)
        assert data.report.files[0].bad == 1
        return data.items["title"][data.item_ids.index("i4")].as_py()

    assert title() == "Other"
    table["title"] = replaced(table["title"], 180, " ")
    assert title() == "Mug 4"


@pytest.mark.parametrize("kind", ["timestamp", "text", "integer", "date"])
def test_of_repeated_items_the_newest_counts_where_rows_are_dated(tmp_path: Path, kind: str) -> None:
    days = [datetime(2024, 1, 1, tzinfo=UTC) + timedelta(days=n) for n in range(N_ITEMS)]
    days = replaced(days, 180, datetime(2023, 1, 1, tzinfo=UTC))  # type: ignore[arg-type]
    moments = {
        "timestamp": days,
        "text": [day.isoformat() for day in days],
        "integer": [int(day.timestamp()) for day in days],
        "date": [day.date() for day in days],
    }[kind]
    table = items(item_id=replaced(items()["item_id"], 180, "i4"), Updated_At=moments)
    data = load(shop(tmp_path, items=table), now=NOW, rejected=tmp_path / "rejected.parquet")
    assert data.items["title"][data.item_ids.index("i4")].as_py() == "Mug 4"
    assert one_finding(data, 0)[:4] == (
        "item_id repeated; the row with the newest Updated_At counts", "row set aside", 1, 180,
    )  # fmt: skip
    assert pq.read_table(tmp_path / "rejected.parquet")["row"].to_pylist() == [180]


def test_a_time_of_change_that_cannot_be_read_is_not_trusted(tmp_path: Path) -> None:
    table = items(item_id=replaced(items()["item_id"], 180, "i4"), updated=["yesterday"] * N_ITEMS)
    data = load(shop(tmp_path, items=table), now=NOW)
    assert one_finding(data, 0)[0] == "item_id repeated; the last row counts (updated is no time)"
    assert data.items["title"][data.item_ids.index("i4")].as_py() == "Mug 180"


def test_an_item_with_an_impossible_price_stays_without_it(tmp_path: Path) -> None:
    dataset = load(shop(tmp_path, items=items(price=replaced([2.0] * N_ITEMS, 5, float("nan")))), now=NOW)
    assert dataset.items["price"][5].as_py() is None
    assert dataset.items["price"].null_count == 1


def test_markup_is_taken_out_of_every_text_and_counted(tmp_path: Path) -> None:
    table = items(
        title=replaced(items()["title"], 4, "<b>Mug</b> &amp; lid"),
        category=replaced([["Mugs"]] * N_ITEMS, 5, ["Kitchen &gt; Mugs", "<i>New</i>"]),
        brand=replaced([None] * N_ITEMS, 6, "AT&amp;T"),
        description=["<p>Holds &frac12; l</p>", "a < b"] * (N_ITEMS // 2),
    )
    data = load(shop(tmp_path, items=table), now=NOW, max_bad=0, rejected=tmp_path / "rejected.parquet")
    assert data.items["title"][4].as_py() == "Mug & lid"
    assert data.items["category"][5].as_py() == ["Kitchen > Mugs", "New"]
    assert data.items["brand"][6].as_py() == "AT&T"
    assert data.items["description"].to_pylist()[:2] == ["\nHolds ½ l\n", "a < b"]
    told = {remark.rule: (remark.rows, remark.first_row) for remark in data.report.files[0].remarks}
    assert told == {
        "title with HTML": (1, 4),
        "category with HTML": (1, 5),
        "brand with HTML": (1, 6),
        "description with HTML": (N_ITEMS // 2, 0),
    }
    assert data.report.files[0].verdict == "good"


def test_a_title_of_markup_alone_is_blank(tmp_path: Path) -> None:
    dataset = load(shop(tmp_path, items=items(title=replaced(items()["title"], 3, "<p>&nbsp;</p>"))), now=NOW)
    assert one_finding(dataset, 0)[:4] == ("title null or blank", "row set aside", 1, 3)


def test_a_query_has_no_markup(tmp_path: Path) -> None:
    data = load(
        searches(tmp_path, queries=queries(text=replaced(queries()["text"], 2, "<b>red</b> mug &lt;3"))), now=NOW
    )
    assert data.queries is not None
    assert data.queries.texts[2] == "red mug <3"


def test_sentences_that_many_descriptions_share_are_noted(tmp_path: Path) -> None:
    told = [f"Free shipping today! Mug of {n} ml." for n in range(N_ITEMS)]
    data = load(shop(tmp_path, items=items(description=told)), now=NOW)
    assert any("'free shipping today'" in note for note in data.report.notes)
    assert item_texts(data.items)[7] == "Mug 7 | Mug of 7 ml."
    assert data.items["description"][7].as_py() == told[7]


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


def test_times_that_count_steps_from_1970_are_taken(tmp_path: Path) -> None:
    steps = [datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=n) for n in range(N_EVENTS)]
    dataset = load(shop(tmp_path, events=events(timestamp=steps)), now=NOW)
    assert dataset.events is not None
    assert len(dataset.events) == N_EVENTS


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


def test_a_pair_that_several_judged_has_their_mean_grade(tmp_path: Path) -> None:
    table = judgements(
        query_id=replaced(judgements()["query_id"], 101, "q1"),
        item_id=replaced(judgements()["item_id"], 101, "i1"),
        split=["train"] * 101 + ["test"] * (N_QUERIES - 101),
    )
    data = load(searches(tmp_path, judgements=table), now=NOW, max_bad=0, rejected=tmp_path / "rejected.parquet")
    assert data.judgements is not None
    assert data.queries is not None
    at = np.flatnonzero(data.judgements.query == data.queries.ids.index("q1"))
    assert data.judgements.grade[at].tolist() == [(1 % 3 + 101 % 3) / 2]
    assert data.judgements.split[at].tolist() == [2]
    assert len(data.judgements) == N_QUERIES - 1
    (remark,) = data.report.files[2].remarks
    assert (remark.rule, remark.rows, remark.action) == ("query and item judged more than once", 1, "grades averaged")
    assert data.report.files[2].verdict == "good"


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
