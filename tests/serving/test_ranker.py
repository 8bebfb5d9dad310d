"""What a run gives to the trainings of its parts."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ranking.cross_encoder import CrossEncoderScorer
from retrieval.errors import BadBundle
from serving.ranker import teacher_of
from serving.settings import read_settings

HARD = "retrieval.text.hard_negatives=1"
pytestmark = pytest.mark.usefixtures("one_thread")


def test_a_configured_cross_encoder_scores_pairs_as_the_teacher(tiny_ranker_folder: Path) -> None:
    config = read_settings(changes=[f"ranking.teacher={tiny_ranker_folder}", HARD]).ranking
    teacher = teacher_of(config, "cpu")
    assert teacher is not None
    asked, items = ["red mug", "mug"], ["a red mug", "blue lamp"]
    own = CrossEncoderScorer.load(tiny_ranker_folder, device="cpu").score(list(zip(asked, items, strict=True)))
    np.testing.assert_allclose(teacher(asked, items), own, atol=1e-6)


def test_without_one_there_is_no_teacher_and_a_folder_without_a_model_is_refused(tmp_path: Path) -> None:
    assert teacher_of(read_settings().ranking, "cpu") is None
    with pytest.raises(BadBundle, match=str(tmp_path)):
        teacher_of(read_settings(changes=[f"ranking.teacher={tmp_path}", HARD]).ranking, "cpu")
