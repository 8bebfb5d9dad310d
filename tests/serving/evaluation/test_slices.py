"""Slices: which targets each holds, that they are read off the orders that are there, and where they are shown."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import numpy as np
import pytest

from retrieval.data.requests import Requests
from retrieval.metrics.baselines import popularity, targets_of
from retrieval.metrics.ranking import recall_at
from retrieval.topk import CSR, Hits
from serving.engine import Engine
from serving.evaluation.evaluator import Measurement, Untuned
from serving.evaluation.figures import MIN_SLICE, MeasuredTask, as_object, evaluate, slice_figures
from serving.evaluation.slices import noisy_queries, request_slices
from serving.reporting.report import Report, render_report
from serving.reporting.tables import slice_label, slice_rows, tables
from serving.settings import RunSettings
from serving.shop import Shop


def requests_of(events, *asked: tuple[int, int, list[int]]) -> Requests:
    """Requests out of (user, events before it, target rows)."""
    lists = CSR.from_lists([targets for _, _, targets in asked])
    users = np.array([user for user, _, _ in asked], np.int32)
    ends = events.offsets[users] + np.array([before for _, before, _ in asked])
    return Requests(users, ends, lists.indptr, lists.rows.astype(np.int32), np.zeros(len(asked), np.int64))


@pytest.fixture(scope="module")
def events(make_events):
    return make_events([[(0, 0, 1), (1, 0, 1), (2, 0, 1)], [(1, 0, 1), (3, 0, 1)]])


def test_each_slice_holds_its_own_targets(events) -> None:
    requests = requests_of(events, (0, 1, [1, 3]), (0, 2, [0, 2]), (1, 1, [1]))
    counts, taken = np.array([5, 1, 2, 0]), CSR.from_lists([[0], [0, 1], [1]])
    found = request_slices(events, requests, targets_of(requests), counts, taken)
    assert {name: mask.tolist() for name, mask in found.items()} == {
        "one_event": [True, True, False, False, True],
        "new_items": [False, True, False, False, False],
        "repeats": [False, False, True, False, True],
        "explore": [True, True, False, True, False],
    }


def test_without_repeats_there_is_nothing_to_tell_apart(events) -> None:
    requests = requests_of(events, (0, 1, [1]))
    told = request_slices(events, requests, targets_of(requests), np.ones(4, np.int64), CSR.from_lists([[0]]))
    assert set(told) == set(request_slices(events, requests, targets_of(requests), np.ones(4, np.int64)))
    assert set(told) == {"one_event", "new_items"}


def halves(n: int) -> tuple[MeasuredTask, np.ndarray]:
    """n requests of two targets: the first is the best item of all stages, the second, row 9, is the last of three."""
    targets = CSR(np.arange(0, 2 * n + 1, 2), np.tile([1, 9], n))
    hits = Hits(np.tile([1, 2, 9], (n, 1)), np.tile(np.float32([3, 2, 1]), (n, 1)))
    baseline = popularity(n, np.arange(10, 0, -1)).places(targets)
    second = np.tile([False, True], n)
    return MeasuredTask(
        targets=targets, stages={"popularity": baseline, "retrieval": hits}, counts=np.ones(10, np.int64)
    ), second


def test_a_slice_is_measured_on_its_targets_alone_from_lists_and_from_places() -> None:
    task, second = halves(30)
    part = slice_figures(replace(task, slices={"new_items": second}))["new_items"]
    stages = as_object(as_object(part)["stages"])
    assert as_object(part)["n"] == 30
    assert as_object(stages["retrieval"])["mrr@5"] == pytest.approx(1 / 3)
    assert as_object(stages["popularity"])["mrr@10"] == pytest.approx(1 / 10)
    assert set(as_object(stages["retrieval"])) > set(as_object(stages["popularity"]))


def test_requests_outside_a_slice_count_in_none_of_its_means() -> None:
    task, second = halves(2 * MIN_SLICE)
    few = second & (np.arange(len(second)) < 2 * MIN_SLICE)
    part = as_object(slice_figures(replace(task, slices={"repeats": few}))["repeats"])
    assert part["n"] == MIN_SLICE
    assert as_object(as_object(part["stages"])["retrieval"])["recall@5"] == 1.0


def test_small_slices_are_left_out() -> None:
    task, second = halves(MIN_SLICE - 1)
    assert slice_figures(replace(task, slices={"repeats": second}, variants={"noisy_queries": task})) == {}


def test_a_variant_is_measured_on_its_own_orders() -> None:
    task, _ = halves(30)
    worse = replace(task, stages={"retrieval": Hits(np.full((30, 1), 7), np.ones((30, 1), np.float32))})
    found = slice_figures(replace(task, variants={"noisy_queries": worse}))
    noisy = as_object(as_object(as_object(found["noisy_queries"])["stages"])["retrieval"])
    assert noisy["recall@100"] == 0.0


def sliced_evaluation():
    task, second = halves(30)
    task = replace(task, stages={**task.stages, "fused": task.stages["retrieval"]}, slices={"new_items": second})
    return evaluate(recommend={"seen_removed": task}, search=replace(task, variants={"noisy_queries": task}))


def test_slices_stand_in_the_json_of_every_task_and_are_finite() -> None:
    found = sliced_evaluation()
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    tasks = as_object(found["tasks"])
    assert set(as_object(as_object(as_object(tasks["recommend"])["seen_removed"])["slices"])) == {"new_items"}
    assert set(as_object(as_object(tasks["search"])["slices"])) == {"new_items", "noisy_queries"}


def test_a_slice_is_shown_with_the_towers_the_fused_order_and_the_best_baseline() -> None:
    task = as_object(as_object(sliced_evaluation()["tasks"])["search"])
    rows = slice_rows(task)
    assert [row.stage for row in rows] == ["retrieval", "fused", "popularity"] * 3
    assert [row.name for row in rows if row.name] == ["all", slice_label("new_items"), slice_label("noisy_queries")]
    assert rows[3].figures == ["1.0000", "1.0000", ".5000"]
    assert slice_rows({**task, "slices": {}}) == []


def test_report_and_terminal_show_the_slices() -> None:
    from rich.console import Console

    found = sliced_evaluation()
    page = render_report(Report(title="Slices", created=datetime(2026, 1, 1), evaluation=found))
    console = Console(width=120, record=True, file=io.StringIO())
    for table in tables(found):
        console.print(table)
    text = console.export_text()
    for shown in (page, text):
        assert slice_label("new_items") in shown
        assert slice_label("noisy_queries") in shown
    assert page.count("<h3>By slice</h3>") == text.count("by slice") == 2


@pytest.fixture(scope="module")
def shop(sample_folder: Path, quick_settings: RunSettings, open_shop: Callable[[Path, RunSettings], Shop]) -> Shop:
    return open_shop(sample_folder, quick_settings)


def test_every_noisy_query_has_a_slip_that_its_id_decides(shop: Shop) -> None:
    assert shop.judgements is not None
    queries = shop.judgements.folds["test"]
    noisy = noisy_queries(shop, queries)
    assert all(slip != text for slip, text in zip(noisy, shop.query_texts(queries), strict=True))
    assert noisy_queries(shop, queries[::-1]) == noisy[::-1]


def test_a_measured_release_has_slices_of_what_it_ranked(
    engine: Engine, shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("serving.evaluation.figures.MIN_SLICE", 1)
    assert shop.judgements is not None
    assert shop.data.events is not None
    n = len(shop.judgements.folds["test"])
    rng = np.random.default_rng(0)
    vectors = [rng.random((rows, 4), np.float32) for rows in (shop.data.n_items, n, n)]
    bare = replace(engine.state, steps=())
    found, _ = Measurement(bare, shop, rerank_sample=0).evaluate(Untuned(*vectors), {}, "r", 0)
    tasks = as_object(found["tasks"])
    kept, removed = (as_object(as_object(tasks["recommend"])[mode]) for mode in ("seen_kept", "seen_removed"))
    repeats, explore = (as_object(as_object(kept["slices"])[name]) for name in ("repeats", "explore"))
    assert {"repeats", "explore"}.isdisjoint(as_object(removed["slices"]))
    assert set(as_object(repeats["stages"])) == set(as_object(kept["stages"]))
    assert 0 < int(str(repeats["n"])) <= int(str(kept["n"]))
    own = as_object(as_object(repeats["stages"])["own_frequency"])["recall@5"]
    new = as_object(as_object(explore["stages"])["own_frequency"])["recall@5"]
    assert own > new  # type: ignore[operator]
    search = as_object(tasks["search"])
    noisy = as_object(as_object(search["slices"])["noisy_queries"])
    assert noisy["n"] == search["n"]
    assert {"bm25", "untuned_encoder", "retrieval"} <= set(as_object(noisy["stages"]))
    assert "judged_share@10" in as_object(as_object(noisy["stages"])["bm25"])


def test_lists_cut_by_a_mask_find_what_they_found_before() -> None:
    task, second = halves(3)
    hits = task.stages["retrieval"]
    cut = task.targets.where(second)
    assert recall_at(hits, cut, 5).tolist() == [1.0, 1.0, 1.0]
    assert recall_at(hits, cut, 2).tolist() == [0.0, 0.0, 0.0]
