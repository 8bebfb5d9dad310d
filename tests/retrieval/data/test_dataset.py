"""A good data set arrives whole, whatever its ids, types and order; one that is none is refused in one line."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from data_sets import (
    N_EVENTS,
    N_ITEMS,
    N_QUERIES,
    NOW,
    START,
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
from retrieval.data.dataset import DataSet, check, load

# what is right


def test_events_are_sorted_by_user_then_time_and_offsets_find_a_user(tmp_path: Path) -> None:
    dataset = load(shop(tmp_path), now=NOW)
    assert dataset.events is not None
    assert dataset.user_ids == tuple(sorted(f"u{n}" for n in range(30)))
    for user in range(dataset.n_users):
        own = dataset.events.of_user(user)
        assert set(dataset.events.user[own].tolist()) == {user}
        assert (np.diff(dataset.events.time[own]) > 0).all()
    assert dataset.events.offsets[-1] == len(dataset.events) == N_EVENTS
    first = dataset.events.of_user(dataset.user_ids.index("u7")).start
    assert dataset.item_ids[dataset.events.item[first]] == "i7"
    assert dataset.events.time[first] == int((START + timedelta(hours=7)).timestamp() * 1e6)


def test_equal_times_keep_the_order_of_the_file(tmp_path: Path) -> None:
    dataset = load(shop(tmp_path, events=events(timestamp=[START] * N_EVENTS)), now=NOW)
    assert dataset.events is not None
    own = dataset.events.item[dataset.events.of_user(dataset.user_ids.index("u3"))]
    assert [dataset.item_ids[row] for row in own] == [f"i{n % 50}" for n in range(3, N_EVENTS, 30)]
    assert any("same timestamp" in note for note in dataset.report.notes)


def test_the_order_of_rows_changes_nothing_of_the_events(tmp_path: Path) -> None:
    table = pa.table(events(query=[f"mug {n % 7}" for n in range(N_EVENTS)]))
    shuffled = table.take(np.random.default_rng(0).permutation(N_EVENTS))
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    one, other = (load(shop(tmp_path / name, events=rows), now=NOW) for name, rows in (("a", table), ("b", shuffled)))
    assert one.events is not None
    assert other.events is not None
    for column in ("user", "item", "kind", "time", "offsets"):
        np.testing.assert_array_equal(getattr(one.events, column), getattr(other.events, column))
    texts = [[e.query_texts[code] for code in e.query] for e in (one.events, other.events)]
    assert texts[0] == texts[1]


def test_optional_event_columns_have_their_defaults_and_their_values(tmp_path: Path) -> None:
    bare = load(shop(tmp_path), now=NOW).events
    assert bare is not None
    assert (bare.quantity == 1).all()
    assert np.isnan(bare.price).all()
    assert (bare.query == -1).all()
    assert not bare.has_baskets
    full = events(
        quantity=[2, None] * (N_EVENTS // 2),
        price=[Decimal("1.50"), None] * (N_EVENTS // 2),
        query=[" blue\tmug ", "  "] * (N_EVENTS // 2),
        basket_id=[7, None] * (N_EVENTS // 2),
    )
    told = load(shop(tmp_path, events=full), now=NOW).events
    assert told is not None
    assert set(told.quantity.tolist()) == {2.0, 1.0}
    assert np.nansum(told.price) == 1.5 * N_EVENTS / 2
    assert told.query_texts == ("blue mug",)
    assert (told.query >= 0).sum() == (told.basket >= 0).sum() == N_EVENTS / 2
    assert told.has_baskets


def test_integer_ids_are_strings_and_meet_string_ids(tmp_path: Path) -> None:
    numbered = events(user_id=list(range(N_EVENTS)), item_id=[str(n % 50) for n in range(N_EVENTS)])
    dataset = load(shop(tmp_path, items=items(item_id=list(range(N_ITEMS))), events=numbered), now=NOW)
    assert dataset.item_ids[:3] == ("0", "1", "2")
    assert dataset.n_users == N_EVENTS


@pytest.mark.parametrize("odd", ["007", "1.0", "ключ 🗝", " padded ", "a" * 5000, "new\nline", "-1", "null"])
def test_odd_ids_are_taken_verbatim(tmp_path: Path, odd: str) -> None:
    item_ids = replaced(items()["item_id"], 0, odd)
    told = events(item_id=[odd] * N_EVENTS, user_id=[odd] * N_EVENTS)
    dataset = load(shop(tmp_path, items=items(item_id=item_ids), events=told), now=NOW)
    assert dataset.item_ids[0] == odd
    assert dataset.user_ids == (odd,)
    assert dataset.report.files[0].verdict == dataset.report.files[1].verdict == "good"


def test_leading_zeros_are_not_the_same_id(tmp_path: Path) -> None:
    line = refusal(
        shop(tmp_path, items=items(item_id=[f"{n:05}" for n in range(N_ITEMS)]), events=events(item_id=[7] * N_EVENTS))
    )
    assert "item_id not in items.parquet" in line
    assert "'7'" in line


@pytest.mark.parametrize(
    "kind",
    [
        *(pa.timestamp(unit) for unit in ("s", "ms", "us", "ns")),
        pa.timestamp("ms", "Asia/Tokyo"),
        pa.date32(),
        pa.date64(),
    ],
    ids=str,
)
def test_times_of_every_unit_and_zone_are_microseconds_in_utc(tmp_path: Path, kind: pa.DataType) -> None:
    days = [date(2024, 1, 1) + timedelta(days=n % 100) for n in range(N_EVENTS)]
    moments = days if pa.types.is_date(kind) else [datetime(d.year, d.month, d.day, tzinfo=UTC) for d in days]
    dataset = load(shop(tmp_path, events=events(timestamp=pa.array(moments, kind))), now=NOW)
    assert dataset.events is not None
    assert int(dataset.events.time.min()) == int(START.timestamp()) * 1_000_000
    assert int(dataset.events.time.max()) == int((START + timedelta(days=99)).timestamp()) * 1_000_000


def test_items_keep_further_columns_and_their_order(tmp_path: Path) -> None:
    table = items(colour=["red"] * N_ITEMS, price=[1] * N_ITEMS, category=[["a", "b"]] * N_ITEMS)
    dataset = load(shop(tmp_path, items=table), now=NOW)
    assert dataset.items.column_names == ["item_id", "title", "category", "price", "colour"]
    assert dataset.items.schema.field("price").type == pa.float64()
    assert dataset.items["category"][0].as_py() == ["a", "b"]
    assert tuple(dataset.items["item_id"].to_pylist()) == dataset.item_ids


def test_category_may_be_one_string(tmp_path: Path) -> None:
    dataset = load(shop(tmp_path, items=items(category=["Mugs\x07", None] * (N_ITEMS // 2))), now=NOW)
    assert dataset.items["category"].to_pylist()[:2] == ["Mugs ", None]


def test_a_catalogue_alone_loads_where_interactions_are_not_needed(tmp_path: Path) -> None:
    dataset = load(shop(tmp_path, events=None), now=NOW, require_interactions=False)
    assert (dataset.n_items, dataset.n_users) == (N_ITEMS, 0)
    assert not dataset.has_recommend
    assert not dataset.has_search


def test_judged_queries_load_and_their_users_are_known(tmp_path: Path) -> None:
    folder = searches(tmp_path, queries=queries(user_id=["zoe", None] * (N_QUERIES // 2)), events=events())
    dataset = load(folder, now=NOW)
    assert dataset.queries is not None
    assert dataset.judgements is not None
    assert dataset.has_search
    assert dataset.user_ids[dataset.queries.user[0]] == "zoe"
    assert dataset.queries.user[1] == -1
    assert dataset.queries.ids[5] == "q5"
    assert dataset.queries.texts[5] == "mug 5"
    assert dataset.judgements.grade.max() == 2
    assert set(dataset.judgements.split.tolist()) == {-1}
    assert (np.diff(dataset.judgements.query) >= 0).all()


def test_exact_repeats_of_events_count_and_are_told(tmp_path: Path) -> None:
    table = pa.table(events())
    dataset = load(shop(tmp_path, events=pa.concat_tables([table, table.slice(0, 10)])), now=NOW)
    assert dataset.events is not None
    assert len(dataset.events) == N_EVENTS + 10
    assert any(note.startswith("10 events repeat") for note in dataset.report.notes)


def test_the_fingerprint_follows_the_contents(tmp_path: Path) -> None:
    before = load(shop(tmp_path), now=NOW).fingerprint
    assert load(tmp_path, now=NOW).fingerprint == before
    assert load(shop(tmp_path, events=events(event=["view"] * N_EVENTS)), now=NOW).fingerprint != before


def test_files_of_many_batches_count_rows_from_the_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("retrieval.data.schema.BATCH_ROWS", 16)
    ids = replaced(items()["item_id"], 150, "i180")
    dataset = load(
        shop(tmp_path, items=items(item_id=ids), events=events(user_id=replaced(events()["user_id"], 250, None))),
        now=NOW,
    )
    assert one_finding(dataset, 0)[3:] == (150, "'i180'")
    assert one_finding(dataset, 1)[3:] == (250, "null")
    assert dataset.n_items == N_ITEMS - 1


def test_a_time_zone_that_nobody_knows_is_no_obstacle(tmp_path: Path) -> None:
    moments = (
        pa.array(events()["timestamp"], pa.timestamp("us", "UTC"))
        .cast(pa.int64())
        .view(pa.timestamp("us", "Mars/Base"))
    )
    moments_or_null = pa.concat_arrays([moments.slice(0, N_EVENTS - 1), pa.nulls(1, moments.type)])
    dataset = load(
        shop(tmp_path, events=events(timestamp=moments_or_null)), now=NOW, rejected=tmp_path / "rejected.parquet"
    )
    assert dataset.events is not None
    assert len(dataset.events) == N_EVENTS - 1


def test_a_time_in_another_zone_than_utc_is_the_same_instant(tmp_path: Path) -> None:
    tokyo = START.astimezone(timezone(timedelta(hours=9)))
    dataset = load(shop(tmp_path, events=events(timestamp=[tokyo] * N_EVENTS)), now=NOW)
    assert dataset.events is not None
    assert set(dataset.events.time.tolist()) == {int(START.timestamp() * 1e6)}


# what is wrong with the folder


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    assert "no such folder" in refusal(tmp_path / "nowhere")


def test_a_folder_without_items_tells_what_it_holds(tmp_path: Path) -> None:
    line = refusal(shop(tmp_path, items=None))
    assert "has no items.parquet" in line
    assert "events.parquet" in line


def test_a_catalogue_alone_has_nothing_to_learn_from(tmp_path: Path) -> None:
    assert "neither events.parquet nor queries.parquet" in refusal(shop(tmp_path, events=None))


@pytest.mark.parametrize("lacking", ["queries", "judgements"])
def test_queries_and_judgements_need_each_other(tmp_path: Path, lacking: str) -> None:
    assert f"no {lacking}.parquet" in refusal(searches(tmp_path, **{lacking: None}, events=events()))


def test_files_of_other_names_are_told(tmp_path: Path) -> None:
    shop(tmp_path, judgments=judgements())
    assert any("judgments.parquet" in note for note in load(tmp_path, now=NOW).report.notes)


# the report


def test_the_report_is_json_and_tells_columns_facts_and_verdicts(tmp_path: Path) -> None:
    folder = searches(tmp_path, events=events(query=["mug"] * N_EVENTS), items=items(colour=["red"] * N_ITEMS))
    report = check(folder, now=NOW)
    told = json.loads(json.dumps(report.to_dict(), allow_nan=False))
    assert told["ok"] is True
    assert [file["verdict"] for file in told["files"]] == ["good"] * 4
    assert told["files"][0]["extra"] == ["colour"]
    assert "brand" in told["files"][0]["missing"]
    assert told["facts"]["events by kind"] == {"purchase": 200, "view": 100}
    assert told["facts"]["first event"] == "2024-01-01T00:00:00Z"
    assert told["facts"]["grades"] == {"0": 40, "1": 40, "2": 40}
    text = "\n".join(report.lines())
    assert "further columns: colour" in text
    assert text.endswith("the data set is usable")


def test_the_report_of_a_refused_set_names_every_file(tmp_path: Path) -> None:
    folder = shop(tmp_path, items=items(title=[" "] * N_ITEMS), events=events(user_id=[""] * N_EVENTS))
    report = check(folder, now=NOW)
    assert len(report.refusals) == 2
    assert sum(line.startswith("refused: ") for line in report.lines()) == 2


@pytest.mark.parametrize(("basket", "by_name"), [(["b"] * 4, True), (None, False)])
def test_a_baskets_rows_may_come_in_any_order(
    load_shop: Callable[..., DataSet], basket: list[str] | None, by_name: bool
) -> None:
    """Without baskets the file's own order is all that tells what came first."""
    columns = {"user_id": ["u"] * 4, "item_id": ["c", "a", "d", "b"], "event": ["purchase"] * 4}
    events = columns | {"timestamp": [datetime(2024, 1, 1)] * 4} | ({"basket_id": basket} if basket else {})
    found = load_shop(items={"item_id": ["d", "c", "b", "a"], "title": list("dcba")}, events=events)
    assert found.events is not None
    order = [found.item_ids[row] for row in found.events.item]
    assert order == (["a", "b", "c", "d"] if by_name else columns["item_id"])
