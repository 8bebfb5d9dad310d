"""How long a ranker is trained."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from transformers import BertConfig

from ranking.training.pairs import PairSet
from ranking.training.settings import RankerTraining
from serving.fitting.ranker_data import Training, budgeted

PAIRS = PairSet(
    user_texts=["red mug"] * 100_000,
    item_texts=["mug"],
    indptr=np.arange(0, 200_001, 2),
    item=np.zeros(200_000, np.int64),
    label=np.zeros(200_000, np.float32),
)
TRAINING: Training = {"budget": "default", "device": "cpu", "say": print}


@pytest.mark.parametrize(("layers", "width", "share"), [(6, 384, 1), (12, 384, 2), (12, 768, 8), (2, 128, 1)])
def test_a_larger_model_reads_as_many_pairs_fewer_as_it_is_slower(
    layers: int, width: int, share: int, tmp_path: Path
) -> None:
    BertConfig(num_hidden_layers=layers, hidden_size=width).save_pretrained(tmp_path)
    settings = RankerTraining()
    whole = budgeted(PAIRS, settings, str(tmp_path / "no model"), TRAINING).examples
    assert whole is not None
    assert budgeted(PAIRS, settings, str(tmp_path), TRAINING).examples == pytest.approx(whole / share, abs=1)


def test_what_the_settings_say_is_read(tmp_path: Path) -> None:
    BertConfig(num_hidden_layers=12, hidden_size=768).save_pretrained(tmp_path)
    assert budgeted(PAIRS, RankerTraining(examples=90), str(tmp_path), TRAINING).examples == 90


def test_only_the_layers_that_are_kept_count(tmp_path: Path) -> None:
    BertConfig(num_hidden_layers=12, hidden_size=384).save_pretrained(tmp_path)
    whole, cut = (budgeted(PAIRS, RankerTraining(layers=n), str(tmp_path), TRAINING).examples for n in (None, 6))
    assert whole is not None
    assert cut == pytest.approx(2 * whole, abs=1)
