"""Two processes train one ranker: it learns what one process learns, in as many steps."""

from __future__ import annotations

from pathlib import Path

import pytest
from safetensors.numpy import load_file

from colour_pairs import colour_pairs
from ranking.settings import RankerTraining
from ranking.train import RankerRun, train_ranker
from retrieval.errors import BadBundle, BadConfig

SETTINGS = RankerTraining(
    examples=1_600, batch_size=16, learning_rate=1e-3, dropout=0.0, max_length=32, evaluations=2, precision="fp32"
)


def _trained(start: Path, folder: Path, processes: int) -> tuple[RankerRun, dict[str, object]]:
    run = train_ranker(
        colour_pairs(0), valid=colour_pairs(1), start=start, out=folder / "ranker", checkpoints=folder / "work",
        settings=SETTINGS.model_copy(update={"processes": processes}), device="cpu",
    )  # fmt: skip
    assert not (folder / "work").exists()
    return run, load_file(folder / "ranker" / "model.safetensors")


def test_two_processes_learn_what_one_learns(tiny_bert_folder: Path, tmp_path: Path) -> None:
    alone, weights = _trained(tiny_bert_folder, tmp_path / "one", 1)
    together, others = _trained(tiny_bert_folder, tmp_path / "two", 2)
    assert (together.steps, together.examples) == (alone.steps, alone.examples)
    assert [read for read, _ in together.evaluations] == [read for read, _ in alone.evaluations]
    assert min(alone.best or 0.0, together.best or 0.0) > 0.9
    assert weights.keys() == others.keys()


def test_what_cannot_be_is_told_in_one_line(
    tiny_bert_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(BadBundle, match="does not open"):
        _trained(tmp_path, tmp_path / "two", 2)
    monkeypatch.setattr("ranking.together.pick_device", lambda device: "cuda")
    monkeypatch.setattr("torch.cuda.device_count", lambda: 1)
    with pytest.raises(BadConfig, match="there are 1 GPUs"):
        _trained(tiny_bert_folder, tmp_path / "two", 2)
