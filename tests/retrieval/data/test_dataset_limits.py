"""Bad rows of a data set pass up to a limit, and above it the data set is refused in one line."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from data_sets import N_EVENTS, N_ITEMS, NOW, START, Columns, events, items, refusal, replaced, shop
from retrieval.data.dataset import check, load
from retrieval.errors import BadConfig


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
    assert "rows is usable" in refusal(folder, max_bad=1.0, require_interactions=False)


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
