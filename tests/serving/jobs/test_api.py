"""A run from Python: the pipeline of the command, with the same defaults and the same errors."""

from __future__ import annotations

from pathlib import Path

import pytest

import serving
from retrieval import BadData
from serving.jobs.run import Pipeline, RunResult


@pytest.fixture
def pipelines(monkeypatch: pytest.MonkeyPatch, run_result: RunResult) -> list[Pipeline]:
    """The pipelines that are run; each gives the result of another."""
    found: list[Pipeline] = []
    monkeypatch.setattr(Pipeline, "run", lambda self: found.append(self) or run_result)
    return found


def test_a_run_passes_on_what_it_is_given(pipelines: list[Pipeline], run_result: RunResult, tmp_path: Path) -> None:
    settings, lines = serving.read_settings(changes=["ranking.depth=7"]), list[str]()
    found = serving.run(
        tmp_path / "bundle", tmp_path / "shop", settings, budget="quick", device="cpu", progress=lines.append
    )
    assert found is run_result
    (pipeline,) = pipelines
    assert (pipeline.out, pipeline.data_folder) == (tmp_path / "bundle", tmp_path / "shop")
    assert (pipeline.config, pipeline.budget, pipeline.device) == (settings, "quick", "cpu")
    pipeline.say("a line")
    assert lines == ["a line"]


def test_a_run_has_the_defaults_of_the_command_and_is_silent(
    pipelines: list[Pipeline], capsys: pytest.CaptureFixture[str]
) -> None:
    serving.run("bundle", "shop")
    (pipeline,) = pipelines
    assert (pipeline.config, pipeline.budget, pipeline.device) == (serving.RunSettings(), "default", "auto")
    pipeline.say("a line")
    assert capsys.readouterr() == ("", "")


def test_data_that_are_not_there_are_refused_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(BadData, match="shop"):
        serving.run(tmp_path / "bundle", tmp_path / "shop")
    assert not (tmp_path / "bundle").exists()
