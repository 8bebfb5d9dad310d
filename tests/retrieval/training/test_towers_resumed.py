"""A training ends in the same towers each time, also where it was interrupted in between."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from retrieval.data.dataset import DataSet
from retrieval.data.split import EventSplit
from retrieval.fingerprint import folder_fingerprint
from retrieval.training import text_part
from retrieval.training import towers as train_module
from retrieval.training.towers import TextPart, TowerData
from walks import config_of, fit

pytestmark = pytest.mark.usefixtures("one_thread")


def test_the_same_seed_gives_the_same_towers(
    shop: DataSet, split: EventSplit, tiny_encoder_folder: Path, untuned: TextPart, tmp_path: Path
) -> None:
    config = config_of(tiny_encoder_folder, epochs=1)
    state = torch.random.get_rng_state()
    made = [
        fit(TowerData(shop, split, None), tmp_path / str(i), config.model_copy(update={"seed": seed}), text=untuned)
        for i, seed in enumerate((1, 1, 2))
    ]
    marks = [folder_fingerprint(one.folder) for one in made]
    assert marks[0] == marks[1]
    assert marks[0] != marks[2]
    assert torch.equal(torch.random.get_rng_state(), state)


class Interrupted(Exception):
    """What a test throws into a run."""


def test_an_interrupted_run_trains_nothing_twice_and_ends_as_it_would_have(
    shop: DataSet, split: EventSplit, tiny_encoder_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, source = config_of(tiny_encoder_folder, examples=64, epochs=2), TowerData(shop, split, None)
    whole = fit(source, tmp_path / "whole", config)

    def fails(*parts: object) -> None:
        raise Interrupted

    with monkeypatch.context() as patch:
        patch.setattr(train_module, "_save_history", fails)
        with pytest.raises(Interrupted):
            fit(source, tmp_path / "other", config)

    monkeypatch.setattr(text_part, "train_text", fails)  # it is done
    resumed = fit(source, tmp_path / "other", config)
    assert folder_fingerprint(resumed.folder) == folder_fingerprint(whole.folder)
    assert resumed.figures == whole.figures
    assert set(whole.figures) == {"text_recall@10", "history_recall@20"}


def test_what_an_earlier_run_on_other_settings_left_is_not_taken(
    shop: DataSet, split: EventSplit, tiny_encoder_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = TowerData(shop, split, None)

    def fails(*parts: object) -> None:
        raise Interrupted

    with monkeypatch.context() as patch:
        patch.setattr(train_module, "_save_history", fails)
        with pytest.raises(Interrupted):
            fit(source, tmp_path, config_of(tiny_encoder_folder, examples=32, epochs=1))
    told: list[str] = []
    fit(source, tmp_path, config_of(tiny_encoder_folder, examples=16, epochs=1), told=told)
    assert any(line.startswith("text encoder") and "16 examples" in line for line in told)
