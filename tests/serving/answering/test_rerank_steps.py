"""The steps of reranking: a later step orders the head of what an earlier one ordered, and a release records them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import numpy as np
import pytest
from numpy.typing import NDArray

from ranking.models.cross_encoder import ShortlistScorer, sigmoid
from ranking.models.placement import Placement
from ranking.ordering.blend import Blend
from retrieval.encoders import runtime
from retrieval.encoders.int8_file import INT8
from retrieval.encoders.int8_layers import keep
from retrieval.encoders.runtime import RuntimeName
from retrieval.errors import BadBundle, BadConfig
from retrieval.topk import Hits
from retrieval.towers.serving import UserTower
from serving.answering.rerank_steps import RecordedStep, planned_steps, recorded_steps, with_steps
from serving.answering.retriever import Retriever
from serving.answering.stages import FEWEST, FIRST, OF_DEADLINE, TRIED, Pace, Stages, Step
from serving.settings import read_settings

HITS = Hits(np.array([[10, 11, 12, 13, 14, 15]]), np.array([[6, 5, 4, 3, 2, 1]], np.float32))
QUICK: Mapping[int, float] = {10: 0.0, 11: 5.0, 12: 1.0, 13: 9.0, 14: 7.0, 15: 3.0}
SLOW: Mapping[int, float] = {10: 9.0, 11: 3.0, 12: 9.0, 13: 1.0, 14: 2.0, 15: 9.0}


def stages_of(*steps: Step) -> Stages:
    return Stages(cast("UserTower", None), cast("Retriever", None), longest=1, titles=1, steps=steps)


def step_of(model: str, depth: int, **blends: Blend) -> Step:
    scorer = SimpleNamespace(activation="identity" if model == "raw" else "sigmoid")
    return Step(cast("ShortlistScorer", scorer), depth, blends, model=model)


def logits_of(step: Step, hits: Hits) -> NDArray[np.float32]:
    known = QUICK if step.model == "shallow" else SLOW
    return np.array([[known.get(row, np.nan) for row in line] for line in hits.rows[:, : step.depth]], np.float32)


def test_a_cascade_puts_what_its_last_step_read_first() -> None:
    stages = stages_of(step_of("shallow", 5), step_of("full", 3))
    found = stages.rerank(["q"], HITS, "search", logits_of=logits_of)
    assert found.hits.rows.tolist() == [[11, 14, 13, 12, 10, 15]]  # 13, 14, 11 by the quick one, then among themselves
    assert found.logits[0, :5].tolist() == [3, 2, 1, 1, 0]  # each by the step that placed it
    assert np.isnan(found.logits[0, 5])
    assert found.places.tolist() == [[1, 4, 3, 2, 0, 5]]
    np.testing.assert_array_equal(found.hits.scores, HITS.scores)


def test_every_step_blends_its_logit_with_retrievals_score_of_the_same_item() -> None:
    retrieval_alone = step_of("full", 3, search=Blend(0.0, 1.0))
    found = stages_of(step_of("shallow", 6), retrieval_alone).rerank(["q"], HITS, "search", logits_of=logits_of)
    assert found.hits.rows.tolist() == [[11, 13, 14, 15, 12, 10]]
    assert found.logits[0, :3].tolist() == [5, 3, 2]
    told = HITS._replace(parts={"words": np.array([[0, 1, 0, 3, 2, 9]], np.float32)})
    words_alone = step_of("full", 3, search=Blend(0.0, 0.0, sources={"words": 2.0}))
    found = stages_of(step_of("shallow", 6), words_alone).rerank(["q"], told, "search", logits_of=logits_of)
    assert found.hits.rows.tolist() == [[13, 14, 11, 15, 12, 10]]
    assert found.logits[0, :3].tolist() == [6, 4, 2]


def paced(step: Step, milliseconds: float) -> Step:
    step.pace.took(1, milliseconds)
    return step


def test_a_deadline_lets_each_step_read_what_fits_of_the_time_that_is_then_left() -> None:
    stages = stages_of(paced(step_of("shallow", 5), 2.0), paced(step_of("full", 3), 10.0))
    times = iter([12.5, 25.0])
    found = stages.rerank(["q"], HITS, "search", logits_of=logits_of, left=lambda: next(times))
    assert found.depths == (5, 2)
    alone = stages_of(step_of("shallow", 5), step_of("full", 2))
    np.testing.assert_array_equal(found.hits.rows, alone.rerank(["q"], HITS, "search", logits_of=logits_of).hits.rows)


def test_a_later_step_reads_nothing_that_an_earlier_one_had_no_time_for() -> None:
    stages = stages_of(paced(step_of("shallow", 5), 10.0), paced(step_of("full", 3), 1.0))
    assert stages.rerank(["q"], HITS, "search", logits_of=logits_of, left=lambda: 25.0).depths == (2, 2)


def test_where_no_time_is_left_the_order_stays_as_it_was() -> None:
    stages = stages_of(step_of("full", 3))
    for left in (-1.0, 0.0):
        found = stages.rerank(["q"], HITS, "search", logits_of=logits_of, left=lambda left=left: left)  # type: ignore[misc]
        assert found.depths == (0,)
        np.testing.assert_array_equal(found.hits.rows, HITS.rows)
        assert np.isnan(found.logits).all()
    assert stages.rerank(["q"], HITS, "search", logits_of=logits_of).depths == (3,)


def test_a_pace_ends_where_a_call_takes_the_time_that_it_is_given() -> None:
    pace, read = Pace(), 0
    assert pace.fits(100.0) == FIRST
    for _ in range(60):
        read = pace.fits(100.0)
        pace.took(read, 8.0 + 3.0 * read)
    assert read == pytest.approx((100 * OF_DEADLINE - 8) / 3, abs=1)


def test_one_slow_call_is_not_the_last() -> None:
    pace = Pace()
    pace.took(30, 60_000.0)
    read = []
    for _ in range(5 * TRIED):
        read.append(pace.fits(100.0))
        pace.took(read[-1], 3.0 * read[-1])
    assert read[: TRIED - 1] == [0] * (TRIED - 1)
    assert read[TRIED - 1] == FEWEST
    assert read[-1] == int(OF_DEADLINE * 100 / 3)


def test_who_comes_too_late_teaches_nothing() -> None:
    pace = Pace()
    pace.took(10, 100.0)
    before = pace.fits(1_000.0)
    assert {pace.fits(late) for late in (0.0, -5.0) for _ in range(5_000)} == {0}
    assert pace.fits(1_000.0) == before == 80
    pace.took(7, 0.0)
    assert pace.fits(1e12) > 0


def test_the_median_of_the_last_calls_decides() -> None:
    pace = Pace()
    for milliseconds in (10.0, 10.0, 900.0, 10.0, 10.0):
        pace.took(1, milliseconds)
    assert pace.fits(1_000.0) == 80
    for _ in range(5):
        pace.took(1, 20.0)
    assert pace.fits(1_000.0) == 40


def test_without_a_deadline_even_one_place_is_read() -> None:
    assert stages_of(step_of("full", 1)).rerank(["q"], HITS, "search", logits_of=logits_of).depths == (1,)


def test_fixed_places_stay_through_all_steps() -> None:
    fixed = np.array([[True, False, False, False, False, False]])
    stages = stages_of(step_of("shallow", 6), step_of("full", 4))
    found = stages.rerank(["q"], HITS, "search", fixed=fixed, logits_of=logits_of)
    assert found.hits.rows.tolist() == [[10, 11, 14, 13, 15, 12]]
    assert np.isnan(found.logits[0, 0])


def test_scores_of_two_models_never_rise_down_the_list() -> None:
    stages = stages_of(step_of("shallow", 5), step_of("full", 3))
    shown = stages.shown_scores(stages.rerank(["q"], HITS, "search", logits_of=logits_of))[0]
    wanted = sigmoid(np.array([3.0, 2.0, 1.0, 1.0, 0.0]))
    np.testing.assert_allclose(shown[:5], wanted, rtol=1e-6)
    assert shown[5] == shown[4]  # retrieval's 1.0 would stand above a chance of a half


def test_what_a_later_model_put_behind_is_capped_by_it() -> None:
    stages = stages_of(step_of("shallow", 6, search=Blend(1.0, 0.0, 10.0)), step_of("raw", 2))
    reranked = stages.rerank(["q"], HITS, "search", logits_of=logits_of)
    assert reranked.read_by.tolist() == [[1, 1, 0, 0, 0, 0]]
    shown = stages.shown_scores(reranked)[0]
    assert shown[:2].tolist() == [2.0, 1.0]  # logits as they are
    assert (np.diff(shown) <= 0).all()
    assert shown[2] == pytest.approx(
        float(sigmoid(np.array([15.0]))[0])
    )  # below the 1.0 before it, by its own activation


def test_what_stands_first_by_its_name_has_no_less_than_what_follows() -> None:
    fixed = np.array([[True, False, False, False, False, False]])
    stages = stages_of(step_of("raw", 6))
    reranked = stages.rerank(["q"], Hits(HITS.rows, HITS.scores / 10), "search", fixed=fixed, logits_of=logits_of)
    shown = stages.shown_scores(reranked)[0]
    assert reranked.hits.rows[0, 0] == 10
    assert shown[0] == shown[1] == 9.0


def test_without_a_step_nothing_moves() -> None:
    found = stages_of().rerank(["q"], HITS, "search")
    np.testing.assert_array_equal(found.hits.rows, HITS.rows)
    assert np.isnan(found.logits).all()
    assert stages_of().depth == 0


def test_another_depth_is_that_of_the_first_step_and_the_most_of_the_others() -> None:
    stages = stages_of(step_of("shallow", 100), step_of("full", 25))
    assert [step.depth for step in stages.at_depth(50).steps] == [50, 25]
    assert [step.depth for step in stages.at_depth(10).steps] == [10, 10]


def test_a_release_records_its_steps() -> None:
    steps = (RecordedStep("shallow", 100, precision="int8"), RecordedStep("full", 10, {"search": Blend(1.0, 0.5)}))
    assert recorded_steps(with_steps({"titles": 3}, steps)) == steps


@pytest.mark.parametrize(
    ("recorded", "asked", "wanted"),
    [("auto", "auto", "fp32"), ("int8", "auto", "int8"), ("int8", "fp32", "fp32"), ("auto", "int8", "int8")],
)
def test_what_a_caller_asks_for_stands_above_what_is_recorded(
    recorded: str, asked: str, wanted: str, tmp_path: Path
) -> None:
    keep({}, tmp_path)
    found = RecordedStep("full", 10, precision=recorded).placed(tmp_path, "cpu", asked)
    assert found == Placement("cpu", "openvino", wanted)  # type: ignore[arg-type]


def test_recorded_int8_counts_as_auto_where_the_model_holds_no_whole_numbers_of_this_version(tmp_path: Path) -> None:
    step = RecordedStep("full", 10, precision="int8")
    assert str(step.placed(tmp_path, "cpu")) == "cpu: openvino, fp32"
    (tmp_path / INT8).touch()
    assert str(step.placed(tmp_path, "cpu")) == "cpu: openvino, fp32"


def test_graphs_are_kept_of_what_another_cpu_takes_too(tmp_path: Path) -> None:
    keep({}, tmp_path)
    steps = [RecordedStep(model, 10) for model in ("full", "shallow", "late")]
    assert [step.cpu_precisions(tmp_path) for step in steps] == [("fp32", "int8"), ("auto",), ("auto",)]


@pytest.mark.parametrize(
    ("model", "by", "fast", "wanted"),
    [
        ("full", "openvino", True, "int8"),
        ("full", "openvino", False, "fp32"),  # this CPU multiplies no whole numbers in hardware
        ("full", "torch", True, "bf16"),  # which only emulates them
        ("shallow", "openvino", True, "bf16"),  # which holds none
        ("late", "openvino", True, "bf16"),
    ],
)
def test_auto_is_int8_where_the_cpu_multiplies_it_and_the_model_holds_whole_numbers(
    model: str, by: RuntimeName, fast: bool, wanted: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runtime, "has_fast_bf16", lambda: fast)
    keep({}, tmp_path)
    assert RecordedStep(model, 10).placed(tmp_path, "cpu", runtime=by) == Placement("cpu", by, wanted)  # type: ignore[arg-type]


def test_recorded_int8_counts_as_auto_on_cuda_and_is_refused_where_it_is_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runtime, "_has_cuda", lambda: True)
    step = RecordedStep("full", 10, precision="int8")
    assert str(step.placed(tmp_path, "cuda")) == "cuda: torch, bf16"
    with pytest.raises(BadConfig, match="int8 is of CPUs"):
        step.placed(tmp_path, "cuda", "int8")


def test_a_release_without_steps_has_the_full_model_alone() -> None:
    (step,) = recorded_steps({"depth": 40, "blend": {"search": {"logit": 1.0, "retrieval": 2.0, "offset": 0.0}}})
    assert step == RecordedStep("full", 40, {"search": Blend(1.0, 2.0)})


@pytest.mark.parametrize("recorded", [{"model": "huge"}, {"depth": 0}, {"depth": "all"}])
def test_a_step_of_another_version_is_refused(recorded: dict[str, str | int]) -> None:
    with pytest.raises(BadBundle, match="not of this version"):
        recorded_steps({"rerank": [dict(recorded)]})


@pytest.mark.parametrize(
    ("strategy", "wanted"),
    [("full", [("full", 50)]), ("shallow", [("shallow", 50)]), ("cascade", [("shallow", 50), ("full", 8)])],
)
def test_the_settings_choose_the_steps(strategy: str, wanted: list[tuple[str, int]]) -> None:
    changes = [
        f"ranking.strategy={strategy}",
        "ranking.depth=50",
        "ranking.second_stage_depth=8",
        "ranking.precision=bf16",
    ]
    steps = planned_steps(read_settings(changes=changes).ranking)
    assert [(step.model, step.depth) for step in steps] == wanted
    assert {step.precision for step in steps} == {"bf16"}
