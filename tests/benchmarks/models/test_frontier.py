"""The table of strategies of reranking: each on the same lists, timed in turn, judged against the full model."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from itertools import count
from pathlib import Path

import numpy as np
import pytest

from benchmarks.models.frontier import (
    StrategyVariant,
    labelled_lists,
    lift,
    measure_strategies,
    open_strategies,
    reference_reranker,
    select_strategies,
    share_of_full_lift,
    strategies,
)
from engine_changes import filtering_seen
from indexing.bundle.bundle import Bundle
from retrieval.encoders.int8_layers import save_int8
from serving.answering.release_settings import StepSettings
from serving.engine import Engine
from serving.evaluation.batch_requests import KnownLogits
from serving.fitting.fit_blend import valid_shortlists
from serving.settings import DataConfig
from serving.shop import Shop

TITLES = ["a mug"] * 80


@pytest.fixture(scope="module")
def shop(shop_folder: Path) -> Shop:
    return Shop.open(shop_folder, DataConfig(), now=datetime(2026, 6, 1, tzinfo=UTC))


@pytest.fixture(scope="module")
def engine(bundle: Path) -> Engine:
    return Engine.open(bundle, device="cpu", auto_reload=False)


def test_a_folder_allows_what_lies_in_it(tmp_path: Path) -> None:
    assert [way.name for way in strategies(tmp_path, first_depths=())] == ["full fp32"]
    some = {
        way.name: [step.depth for step in way.steps] for way in strategies(tmp_path, depth=50, first_depths=(20, 50))
    }
    assert some == {"full fp32": [50], "full fp32, first 20": [20]}
    assert [way.name for way in select_strategies(strategies(tmp_path, first_depths=(20, 50)), ["first 50"])] == [
        "full fp32", "full fp32, first 50"
    ]  # fmt: skip
    assert len(select_strategies(strategies(tmp_path, first_depths=(20, 50)), [])) == 3
    save_int8({}, tmp_path)
    (tmp_path / "shallow").mkdir()
    assert "shallow int8" not in [way.name for way in strategies(tmp_path)]  # which holds no whole numbers
    save_int8({}, tmp_path / "shallow")
    found = strategies(tmp_path, depth=50, second_depths=(10,), first_depths=())
    assert [way.name for way in found] == [
        "full fp32",
        "full int8",
        "shallow fp32",
        "cascade to 10 fp32",
        "shallow int8",
        "cascade to 10 int8",
    ]
    (tmp_path / "late").mkdir()
    late = {
        way.name: [(step.model, step.depth) for step in way.steps]
        for way in strategies(tmp_path, depth=50, second_depths=(10,))
    }
    assert late["late"] == [("late", 50)]
    assert late["late, 10 by shallow int8"] == [("late", 50), ("shallow", 10)]
    assert [(step.model, step.depth, step.precision) for step in found[3].steps] == [
        ("shallow", 50, "fp32"),
        ("full", 10, "fp32"),
    ]


def test_every_way_is_measured_on_the_same_lists_and_timed_in_turn(engine: Engine, bundle: Path, shop: Shop) -> None:
    state, ticks, said = engine.state, count(), list[str]()
    exact, int8 = (StepSettings(model="full", depth=10, precision=kind) for kind in ("fp32", "int8"))
    wanted = [StrategyVariant("fp32", (exact,)), StrategyVariant("int8", (int8,))]
    wanted.append(StrategyVariant("both", (int8, exact.model_copy(update={"depth": 5}))))
    opened = open_strategies(Bundle.open(bundle), state, shop, wanted, device="cpu", say=said.append)
    of_exact, of_int8, of_both = ([step.scorer for step in one.steps] for one in opened)
    assert len(of_both) == 2
    assert of_both[0] is of_int8[0]  # each model was opened once
    assert of_both[1] is of_exact[0]
    lists = next(one for one in labelled_lists(state, shop, "test", most=12) if one.task.gate == "search")
    theirs = reference_reranker(Bundle.open(bundle).path_of("ranker", str(engine.release.ranker)), TITLES, 10, "cpu")
    points = measure_strategies(wanted, opened, lists, reference=theirs, timed=3, clock=lambda: float(next(ticks)))
    assert [point.faster for point in points] == [1.0] * 3  # every look at the clock is a second later
    assert [point.name for point in points] == ["fp32", "int8", "both"]
    assert all(point.milliseconds == (1_000.0,) * 3 for point in points)
    assert points[0].share == 1.0 or np.isnan(points[0].share)
    assert points[0].lift.n == points[1].lift.n > 0
    assert "int8: full model, cpu: openvino, int8" in said


def test_blends_can_be_fitted_on_the_first_requests_alone(engine: Engine, shop: Shop) -> None:
    for whole in valid_shortlists(engine.state, shop):
        few = whole.first(3)
        rows, every = few.found.batch.candidates.hits.rows, whole.found.batch.candidates.hits.rows
        n = min(3, len(whole.texts))
        assert (len(few.texts), len(rows), few.found.targets.n_lists) == (n, n, n)
        assert (rows == every[:n]).all()
        assert list(few.texts) == list(whole.texts[:n])
        assert len(whole.first(None).texts) == len(whole.texts)


@pytest.mark.parametrize("whole", [0.0, -0.02])
def test_of_a_lift_that_is_none_nothing_can_be_kept(whole: float) -> None:
    assert np.isnan(share_of_full_lift(-0.01, whole))


def test_an_order_that_stays_lifts_nothing(engine: Engine, shop: Shop) -> None:
    state = filtering_seen(engine.state, True)
    lists = labelled_lists(state, shop, "test", most=10)
    assert [one.task.gate for one in lists] == ["recommend_unseen", "search"]
    for one in lists:
        found, reweighed = lift(replace(state, steps=()), one, KnownLogits(state))
        assert found.mean == reweighed.mean == 0.0
        assert 0 < found.n <= len(one) == 10
