"""Two processes train one ranker: what they learn together is what one process learns of the same batches."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from colour_pairs import COLOURS, ITEMS, colour_pairs
from ranking.models.cross_encoder import CrossEncoderScorer
from ranking.models.late_network import late_head, open_late_interaction
from ranking.training.local import RankerRun
from ranking.training.settings import RankerTraining
from ranking.training.train import train_ranker
from retrieval.errors import BadBundle, BadConfig

EVERY = len(colour_pairs(0))
SETTINGS = RankerTraining(
    examples=4 * EVERY,
    batch_size=EVERY,
    learning_rate=1e-3,
    dropout=0.0,
    max_length=32,
    evaluations=2,
    precision="fp32",
)


def _trained(start: Path, folder: Path, **changes: object) -> RankerRun:
    run = train_ranker(
        colour_pairs(0), valid=colour_pairs(1), start=start, out=folder / "ranker", checkpoints=folder / "work",
        settings=SETTINGS.model_copy(update=changes), device="cpu",
    )  # fmt: skip
    return run


@pytest.mark.usefixtures("one_thread")
def test_two_processes_learn_what_one_learns_of_the_same_batches(tiny_bert_folder: Path, tmp_path: Path) -> None:
    alone = _trained(tiny_bert_folder, tmp_path / "one")
    together = _trained(tiny_bert_folder, tmp_path / "two", processes=2)
    assert (together.steps, together.examples) == (alone.steps, alone.examples) == (4, 4 * EVERY)
    assert together.best == pytest.approx(alone.best, abs=1e-6)
    pairs = [(colour, item) for colour in COLOURS for item in ITEMS]
    scores, others = (
        CrossEncoderScorer.load(tmp_path / name / "ranker", device="cpu").score(pairs) for name in ("one", "two")
    )
    np.testing.assert_allclose(
        others, scores, atol=0.02 * np.std(scores)
    )  # a batch holds every pair, half in each process


@pytest.mark.slow
def test_late_interaction_and_rows_that_no_number_divides(tiny_bert_folder: Path, tmp_path: Path) -> None:
    settings = {"processes": 2, "late_interaction": True, "batch_size": 14, "examples": 5 * EVERY}
    run = _trained(tiny_bert_folder, tmp_path, **settings)
    assert len(run.evaluations) == SETTINGS.evaluations
    assert late_head(open_late_interaction(tmp_path / "ranker")) is not None


def test_what_cannot_be_is_told_in_one_line(
    tiny_bert_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(BadBundle, match="does not open"):
        _trained(tmp_path, tmp_path / "two", processes=2)
    with pytest.raises(BadConfig, match="too few for a batch in each"):
        _trained(tiny_bert_folder, tmp_path / "two", processes=EVERY + 1)
    monkeypatch.setattr("ranking.training.distributed.pick_device", lambda device: "cuda")
    monkeypatch.setattr("torch.cuda.device_count", lambda: 1)
    with pytest.raises(BadConfig, match="there are 1 GPUs"):
        _trained(tiny_bert_folder, tmp_path / "two", processes=2)
