"""Runs over shops with next to no data: they end, fall back to a simpler order, and say so."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from data_sets import START, Columns, items, judgements, queries, shop
from serving.engine import Engine
from serving.jobs.run import Pipeline
from serving.settings import RunSettings

FEW = 50
pytestmark = pytest.mark.usefixtures("quiet_trainers")


def bought(n: int, shoppers: int, n_items: int) -> Columns:
    return {
        "user_id": [f"u{i % shoppers}" for i in range(n)],
        "item_id": [f"i{(7 * i) % n_items}" for i in range(n)],
        "event": ["purchase"] * n,
        "timestamp": [START + timedelta(hours=i) for i in range(n)],
    }


def run(folder: Path, data: Path, settings: RunSettings) -> tuple[Pipeline, list[str]]:
    lines: list[str] = []
    pipeline = Pipeline(data, folder / "bundle", settings, "quick", "cpu", say=lines.append)
    pipeline.run()
    return pipeline, lines


@pytest.mark.parametrize(("n", "shoppers"), [(FEW, 10), (200, 20)])
def test_a_shop_of_few_events_keeps_the_fused_order_or_a_linear_one_and_says_so(
    n: int, shoppers: int, tmp_path: Path, quick_settings: RunSettings
) -> None:
    data = shop(tmp_path, items=items(), events=bought(n, shoppers, FEW))

    pipeline, lines = run(tmp_path, data, quick_settings)

    assert any(line.startswith("second stage, recommend: ") for line in lines)
    with Engine.open(pipeline.out, device="cpu") as engine:
        kinds = {ranker.kind for ranker in engine.state.second_stage.rankers.values()}
        assert kinds <= {"linear"}
        assert engine.recommend(user_id="u1", k=5).items


def test_a_shop_without_events_is_searched(tmp_path: Path, quick_settings: RunSettings) -> None:
    data = shop(tmp_path, items=items(), events=None, queries=queries(), judgements=judgements())

    pipeline, lines = run(tmp_path, data, quick_settings)

    assert not any("second stage, recommend" in line for line in lines)
    with Engine.open(pipeline.out, device="cpu") as engine:
        assert engine.search("mug 7", k=5).items


def test_a_shop_of_one_item_answers_with_it(tmp_path: Path, quick_settings: RunSettings) -> None:
    one: Columns = {"item_id": ["i0"], "title": ["Mug"]}
    data = shop(tmp_path, items=one, events=bought(FEW, 10, 1))

    pipeline, _ = run(tmp_path, data, quick_settings)

    with Engine.open(pipeline.out, device="cpu") as engine:
        assert [hit.item_id for hit in engine.recommend(user_id="u1", filter_seen=False).items] == ["i0"]
