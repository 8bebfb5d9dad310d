"""LoRA: what learns, what stays, and that the saved model is one like any other."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file
from sentence_transformers import CrossEncoder

from colour_pairs import COLOURS, ITEMS, colour_pairs
from ranking.models.cross_encoder import CrossEncoderScorer
from ranking.models.late_network import open_late_interaction
from ranking.training.initial_model import new_cross_encoder, tokenizer_of
from ranking.training.local import RankingEvaluator
from ranking.training.settings import RankerTraining
from ranking.training.train import train_ranker
from retrieval.errors import BadConfig, MissingDependency

pytestmark = pytest.mark.usefixtures("one_thread")

RANK = 3
SETTINGS = RankerTraining(
    lora=RANK, examples=1_500, batch_size=16, learning_rate=5e-3, dropout=0.0, max_length=32, evaluations=3, patience=3
)


@pytest.mark.parametrize("frozen", [0, 1])
def test_layers_change_by_their_rank_and_the_head_learns(tiny_bert_folder: Path, tmp_path: Path, frozen: int) -> None:
    settings = SETTINGS.model_copy(update={"freeze_layers": frozen})
    before = new_cross_encoder(tiny_bert_folder, settings.model_copy(update={"lora": None})).model.state_dict()
    run = train_ranker(
        colour_pairs(0), valid=colour_pairs(1), start=tiny_bert_folder, out=tmp_path / "ranker",
        checkpoints=tmp_path / "work", settings=settings, device="cpu",
    )  # fmt: skip
    assert run.best is not None
    assert run.best > 0.9
    kept = CrossEncoder(str(tmp_path / "ranker"), device="cpu")
    again = RankingEvaluator(tokenizer_of(kept), colour_pairs(1), device="cpu", precision="fp32")(kept)
    assert again["ndcg@10"] == pytest.approx(run.best, abs=1e-6)  # the best checkpoint's changes, merged
    after = load_file(tmp_path / "ranker" / "model.safetensors")
    assert after.keys() == before.keys()
    change = {name: after[name] - tensor.numpy() for name, tensor in before.items()}
    ranks = {
        name: int(np.linalg.matrix_rank(change[name], tol=1e-5))
        for name in change
        if ".layer." in name and change[name].ndim == 2
    }
    first = {name: rank for name, rank in ranks.items() if ".layer.0." in name}
    assert set(first.values()) == ({0} if frozen else {RANK})
    assert {rank for name, rank in ranks.items() if name not in first} == {RANK}
    assert all(not change[name].any() for name in change if "embeddings" in name or name.endswith("LayerNorm.weight"))
    assert change["classifier.weight"].any()


def test_a_model_trained_so_opens_as_any_other(tiny_bert_folder: Path, tmp_path: Path) -> None:
    train_ranker(
        colour_pairs(0), valid=None, start=tiny_bert_folder, out=tmp_path / "ranker", checkpoints=tmp_path / "work",
        settings=SETTINGS, device="cpu",
    )  # fmt: skip
    pairs = [(colour, item) for colour in COLOURS for item in ITEMS]
    theirs = CrossEncoder(str(tmp_path / "ranker"), device="cpu").predict(pairs, show_progress_bar=False)
    ours = CrossEncoderScorer.load(tmp_path / "ranker", device="cpu").score(pairs)
    np.testing.assert_allclose(1 / (1 + np.exp(-ours)), theirs, atol=1e-5)


def test_changes_begin_as_the_seed_has_it(tiny_bert_folder: Path) -> None:
    found = []
    for seed in (0, 0, 1):
        torch.rand(1)  # what was drawn before has no say
        found.append(new_cross_encoder(tiny_bert_folder, SETTINGS.model_copy(update={"seed": seed})).state_dict())
    first, again, other = found
    drawn = [name for name in first if "lora_A" in name]
    assert drawn
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not any(torch.equal(first[name], other[name]) for name in drawn)


def test_the_best_checkpoint_s_changes_are_kept(
    tiny_bert_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told, measure = list[float](), RankingEvaluator.__call__

    def ever_worse(evaluator: RankingEvaluator, model: CrossEncoder, *rest: object, **more: object) -> dict[str, float]:
        told.append(measure(evaluator, model)["ndcg@10"])
        return {"ndcg@10": 1 / len(told)}

    with monkeypatch.context() as patched:
        patched.setattr(RankingEvaluator, "__call__", ever_worse)
        train_ranker(
            colour_pairs(0), valid=colour_pairs(1), start=tiny_bert_folder, out=tmp_path / "ranker",
            checkpoints=tmp_path / "work", settings=SETTINGS, device="cpu",
        )  # fmt: skip
    kept = CrossEncoder(str(tmp_path / "ranker"), device="cpu")
    again = RankingEvaluator(tokenizer_of(kept), colour_pairs(1), device="cpu", precision="fp32")(kept)
    assert again["ndcg@10"] == pytest.approx(told[0], abs=1e-6)
    assert told[0] < told[-1]  # what it learned after the first was thrown away


def test_late_interaction_learns_by_changes_too(tiny_bert_folder: Path, tmp_path: Path) -> None:
    settings = SETTINGS.model_copy(update={"late_interaction": True, "head_rate": 4.0})
    run = train_ranker(
        colour_pairs(0), valid=colour_pairs(1), start=tiny_bert_folder, out=tmp_path / "late",
        checkpoints=tmp_path / "work", settings=settings, device="cpu",
    )  # fmt: skip
    kept = open_late_interaction(tmp_path / "late")
    again = RankingEvaluator(tokenizer_of(kept), colour_pairs(1), device="cpu", precision="fp32")(kept)
    assert again["ndcg@10"] == pytest.approx(run.best, abs=1e-6)


def test_nothing_to_change_is_refused(tiny_bert_folder: Path) -> None:
    with pytest.raises(BadConfig, match="all layers are frozen"):
        new_cross_encoder(tiny_bert_folder, SETTINGS.model_copy(update={"freeze_layers": 2}))


def test_without_peft_one_line_says_what_to_install(tiny_bert_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(MissingDependency, match=r"shortlist\[lora\]"):
        new_cross_encoder(tiny_bert_folder, SETTINGS)
