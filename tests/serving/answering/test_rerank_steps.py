"""The steps of reranking: what the settings plan, what a release records, and where their models run."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from rerank_fakes import step_of

from ranking.models.placement import Placement
from ranking.ordering.blend import Blend
from retrieval.encoders import runtime
from retrieval.encoders.int8_file import INT8
from retrieval.encoders.int8_layers import save_int8
from retrieval.encoders.runtime import RuntimeName, RuntimeOptions
from retrieval.errors import BadBundle, BadConfig
from serving.answering.release_settings import StepSettings
from serving.answering.rerank_steps import cpu_precisions, model_folder, planned_steps, recorded_steps, step_placement
from serving.settings import read_settings

ON_CPU = RuntimeOptions(device="cpu")


def test_steps_are_recorded_with_their_blends() -> None:
    shallow = replace(step_of("shallow", 100), precision="int8")
    full = step_of("full", 10, search=Blend(1.0, 0.5))
    first, second = recorded_steps([shallow, full])
    assert first == StepSettings(model="shallow", depth=100, precision="int8")
    assert (second.model, second.depth, second.precision) == ("full", 10, "auto")
    assert second.blends == full.blends


@pytest.mark.parametrize(
    ("recorded", "asked", "wanted"),
    [("auto", "auto", "fp32"), ("int8", "auto", "int8"), ("int8", "fp32", "fp32"), ("auto", "int8", "int8")],
)
def test_what_a_caller_asks_for_stands_above_what_is_recorded(
    recorded: str, asked: str, wanted: str, tmp_path: Path
) -> None:
    save_int8({}, tmp_path)
    step = StepSettings(model="full", depth=10, precision=recorded)
    found = step_placement(step, tmp_path, RuntimeOptions(device="cpu", precision=asked))
    assert found == Placement("cpu", "openvino", wanted)  # type: ignore[arg-type]


def test_recorded_int8_counts_as_auto_where_the_model_holds_no_whole_numbers_of_this_version(tmp_path: Path) -> None:
    step = StepSettings(model="full", depth=10, precision="int8")
    assert str(step_placement(step, tmp_path, ON_CPU)) == "cpu: openvino, fp32"
    (tmp_path / INT8).touch()
    assert str(step_placement(step, tmp_path, ON_CPU)) == "cpu: openvino, fp32"


def test_graphs_are_kept_of_what_another_cpu_takes_too(tmp_path: Path) -> None:
    save_int8({}, tmp_path)
    steps = [StepSettings(model=model, depth=10) for model in ("full", "shallow", "late")]
    assert [cpu_precisions(step, tmp_path) for step in steps] == [("fp32", "int8"), ("auto",), ("auto",)]


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
    save_int8({}, tmp_path)
    found = step_placement(StepSettings(model=model, depth=10), tmp_path, RuntimeOptions(device="cpu", runtime=by))
    assert found == Placement("cpu", by, wanted)  # type: ignore[arg-type]


def test_recorded_int8_counts_as_auto_on_cuda_and_is_refused_where_it_is_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runtime, "_has_cuda", lambda: True)
    step = StepSettings(model="full", depth=10, precision="int8")
    assert str(step_placement(step, tmp_path, RuntimeOptions(device="cuda"))) == "cuda: torch, bf16"
    with pytest.raises(BadConfig, match="int8 runs on CPUs only"):
        step_placement(step, tmp_path, RuntimeOptions(device="cuda", precision="int8"))


def test_a_model_that_this_version_does_not_know_is_refused(tmp_path: Path) -> None:
    assert [model_folder(tmp_path, model) for model in ("full", "late")] == [tmp_path, tmp_path / "late"]
    with pytest.raises(BadBundle, match="not of this version"):
        model_folder(tmp_path, "huge")


@pytest.mark.parametrize(
    ("strategy", "wanted"),
    [
        ("full", [("full", 50)]),
        ("shallow", [("shallow", 50)]),
        ("cascade", [("shallow", 50), ("full", 8)]),
        ("late", [("late", 100)]),
        ("late_then_full", [("late", 100), ("full", 50)]),
    ],
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


def test_an_order_without_a_blend_of_its_own_is_the_logits() -> None:
    assert step_of("full", 1, search=Blend(2.0)).blend("recommend") == Blend()
    assert step_of("full", 1, recommend=Blend(2.0)).blend("recommend_unseen") == Blend(2.0)
