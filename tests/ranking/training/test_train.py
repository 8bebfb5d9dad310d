"""A tiny cross-encoder learns a tiny preference, is saved as CrossEncoder opens it, and goes on where it stopped."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from rich.console import Console
from sentence_transformers import CrossEncoder
from torch import nn
from transformers import TrainerCallback

from colour_pairs import COLOURS, ITEMS, colour_pairs
from ranking.models.cross_encoder import CrossEncoderScorer
from ranking.training.collator import PairCollator
from ranking.training.initial_model import new_cross_encoder, tokenizer_of
from ranking.training.local import RankerLoss, layer_rates
from ranking.training.settings import TOKENS, RankerTraining, budget_examples
from ranking.training.train import train_ranker
from retrieval.errors import BadBundle, BadConfig, BadData
from retrieval.training.checkpoint import last_checkpoint
from retrieval.training.length_batches import LengthGroupedBatches

pytestmark = pytest.mark.usefixtures("one_thread")

TINY = RankerTraining(
    examples=2_000, batch_size=16, learning_rate=1e-3, dropout=0.0, max_length=32, evaluations=4, patience=4
)


def _quiet() -> Console:
    return Console(file=io.StringIO())


@pytest.mark.parametrize("loss", ["bce", "softmax", "mse"])
def test_each_loss_learns_and_the_result_opens_in_sentence_transformers(
    loss: str, tiny_bert_folder: Path, tmp_path: Path
) -> None:
    run = train_ranker(
        colour_pairs(0),
        valid=colour_pairs(1),
        start=tiny_bert_folder,
        out=tmp_path / "ranker",
        checkpoints=tmp_path / "work",
        settings=TINY.model_copy(update={"loss": loss}),
        device="cpu",
        console=_quiet(),
    )
    assert run.best is not None
    assert run.best > 0.9
    assert run.best == max(value for _, value in run.evaluations)
    assert run.examples == pytest.approx(2_000, rel=0.15)
    names = {path.suffix for path in (tmp_path / "ranker").iterdir()}
    assert names <= {".json", ".safetensors", ".txt"}  # no pickle
    pairs = [(colour, item) for colour in COLOURS for item in ITEMS]
    theirs = CrossEncoder(str(tmp_path / "ranker"), device="cpu").predict(
        pairs, activation_fn=nn.Identity(), show_progress_bar=False
    )
    ours = CrossEncoderScorer.load(tmp_path / "ranker")
    assert ours.tokenizer.max_length == TINY.max_length
    np.testing.assert_allclose(ours.score(pairs), theirs, atol=1e-4)


def test_the_best_checkpoint_is_restored(tiny_bert_folder: Path, tmp_path: Path) -> None:
    from ranking.training.local import RankingEvaluator

    valid = colour_pairs(1)
    run = train_ranker(
        colour_pairs(0),
        valid=valid,
        start=tiny_bert_folder,
        out=tmp_path / "ranker",
        checkpoints=tmp_path / "work",
        settings=TINY.model_copy(update={"examples": 600, "learning_rate": 2e-2}),
        device="cpu",
        console=_quiet(),
    )
    kept = CrossEncoder(str(tmp_path / "ranker"), device="cpu")
    again = RankingEvaluator(tokenizer_of(kept), valid.sample(10**6, 0), device="cpu", precision="fp32")(kept)
    assert again["ndcg@10"] == pytest.approx(run.best, abs=1e-6)


def test_without_validation_the_budget_is_read_to_its_end(tiny_bert_folder: Path, tmp_path: Path) -> None:
    run = train_ranker(
        colour_pairs(0),
        valid=None,
        start=tiny_bert_folder,
        out=tmp_path / "ranker",
        checkpoints=tmp_path / "work",
        settings=TINY.model_copy(update={"examples": 320}),
        device="cpu",
        console=_quiet(),
    )
    assert (run.best, run.evaluations) == (None, ())
    assert run.steps == 20
    assert (tmp_path / "ranker" / "model.safetensors").exists()


def _weights(folder: Path) -> dict[str, torch.Tensor]:
    return CrossEncoder(str(folder), device="cpu").state_dict()


class _StopAt(TrainerCallback):
    def __init__(self, step: int) -> None:
        self.step = step

    def on_step_end(self, args: object, state: object, control: object, **kwargs: object) -> None:
        if state.global_step == self.step:
            raise KeyboardInterrupt


def test_a_killed_run_goes_on_to_the_same_weights(
    tiny_bert_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ranking.training import local

    settings = TINY.model_copy(update={"examples": 640, "dropout": 0.1})

    def run(out: str, work: str) -> None:
        train_ranker(
            colour_pairs(0),
            valid=colour_pairs(1),
            start=tiny_bert_folder,
            out=tmp_path / out,
            checkpoints=tmp_path / work,
            settings=settings,
            device="cpu",
            console=_quiet(),
        )

    run("whole", "first")
    usual = local._trainer

    def killed_later(*arguments: object) -> object:
        trainer = usual(*arguments)
        trainer.add_callback(_StopAt(25))
        return trainer

    with monkeypatch.context() as patched:
        patched.setattr(local, "_trainer", killed_later)
        with pytest.raises(KeyboardInterrupt):
            run("never", "second")
    assert list((tmp_path / "second").glob("checkpoint-*"))
    run("resumed", "second")
    whole, resumed = _weights(tmp_path / "whole"), _weights(tmp_path / "resumed")
    for name, tensor in whole.items():
        torch.testing.assert_close(resumed[name], tensor, atol=1e-6, rtol=1e-5)
    first = list[object]()
    with monkeypatch.context() as patched:
        patched.setattr(local, "last_checkpoint", lambda folder: first.append(last_checkpoint(folder)) or first[-1])
        run("again", "first")
    assert first[0] is not None  # what is finished does not start anew
    again = _weights(tmp_path / "again")
    for name, tensor in whole.items():
        torch.testing.assert_close(again[name], tensor, atol=1e-6, rtol=1e-5)


def test_checkpoints_of_another_run_are_not_used(tiny_bert_folder: Path, tmp_path: Path) -> None:
    work = tmp_path / "work"
    (work / "checkpoint-999999").mkdir(parents=True)
    (work / "checkpoint-999999" / "trainer_state.json").write_text("{}")
    (work / "run.txt").write_text("of something else")
    run = train_ranker(
        colour_pairs(0),
        valid=None,
        start=tiny_bert_folder,
        out=tmp_path / "ranker",
        checkpoints=work,
        settings=TINY.model_copy(update={"examples": 64}),
        device="cpu",
        console=_quiet(),
    )
    assert run.steps == 4


def test_nothing_to_learn_from_is_refused(tiny_bert_folder: Path, tmp_path: Path) -> None:
    nothing = colour_pairs(0).select(np.empty(0, np.int64))
    with pytest.raises(BadData, match="no training pair"):
        train_ranker(nothing, valid=None, start=tiny_bert_folder, out=tmp_path / "r", checkpoints=tmp_path / "w")


def test_a_start_that_is_no_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadBundle, match="does not open"):
        new_cross_encoder(tmp_path, TINY)


def test_the_head_is_drawn_from_the_seed_and_leaves_torchs_own_alone(tiny_bert_folder: Path) -> None:
    torch.manual_seed(5)
    before = torch.get_rng_state()
    heads = [
        new_cross_encoder(tiny_bert_folder, TINY.model_copy(update={"seed": seed})).model.classifier.weight
        for seed in (0, 0, 1)
    ]
    assert torch.equal(before, torch.get_rng_state())
    assert torch.equal(heads[0], heads[1])
    assert not torch.equal(heads[0], heads[2])


def test_settings_reach_the_model(tiny_bert_folder: Path) -> None:
    settings = RankerTraining(dropout=0.2, attention_dropout=0.3, max_length=20)
    model = new_cross_encoder(tiny_bert_folder, settings)
    layer = model.model.bert.encoder.layer[0]
    assert (layer.output.dropout.p, layer.attention.self.dropout.p) == (0.2, 0.3)
    assert model.max_seq_length == 20
    assert not model.model.bert.embeddings.word_embeddings.weight.requires_grad
    assert model.model.bert.embeddings.position_embeddings.weight.requires_grad
    thawed = new_cross_encoder(tiny_bert_folder, settings.model_copy(update={"freeze_word_embeddings": False}))
    assert thawed.model.bert.embeddings.word_embeddings.weight.requires_grad


def test_a_shallow_model_takes_the_first_layers_and_learns_its_teachers_logits(
    tiny_ranker_folder: Path, tmp_path: Path
) -> None:
    pairs, valid = colour_pairs(0), colour_pairs(1)
    every = [(pairs.user_texts[g], ITEMS[i]) for g, i in zip(pairs.group, pairs.item, strict=True)]
    teacher = np.random.default_rng(0).normal(size=len(COLOURS) * len(ITEMS))  # of each colour and item, any logit
    taught = 4.0 * teacher[[COLOURS.index(user) * len(ITEMS) + ITEMS.index(item) for user, item in every]]
    settings = TINY.model_copy(update={"loss": "logit_mse", "layers": 1, "examples": 6_000})
    train_ranker(
        replace(pairs, label=taught.astype(np.float32)),
        valid=valid,
        start=tiny_ranker_folder,
        out=tmp_path / "shallow",
        checkpoints=tmp_path / "work",
        settings=settings.model_copy(update={"patience": 9}),
        device="cpu",
        console=_quiet(),
    )
    assert CrossEncoder(str(tmp_path / "shallow"), device="cpu").model.config.num_hidden_layers == 1
    found = CrossEncoderScorer.load(tmp_path / "shallow", runtime="torch", device="cpu").score(every)
    assert np.corrcoef(found, taught)[0, 1] > 0.5


def test_the_first_layers_are_those_of_the_start(tiny_ranker_folder: Path) -> None:
    whole = new_cross_encoder(tiny_ranker_folder, TINY)
    cut = new_cross_encoder(tiny_ranker_folder, TINY.model_copy(update={"layers": 1}))
    kept = cut.state_dict()
    assert set(kept) < set(whole.state_dict())
    assert not any(".layer.1." in name for name in kept)
    for name, tensor in kept.items():
        torch.testing.assert_close(tensor, whole.state_dict()[name])


def test_frozen_layers_and_their_embeddings_do_not_learn(tiny_bert_folder: Path) -> None:
    model = new_cross_encoder(tiny_bert_folder, TINY.model_copy(update={"freeze_layers": 1}))
    learns = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert not any("embeddings" in name or ".layer.0." in name for name in learns)
    assert any(".layer.1." in name for name in learns)
    assert any("classifier" in name for name in learns)


@pytest.mark.parametrize("more", [{"layers": 3}, {"freeze_layers": 3}])
def test_more_layers_than_there_are_are_refused(more: dict[str, int], tiny_bert_folder: Path) -> None:
    with pytest.raises(BadConfig, match="2 layers"):
        new_cross_encoder(tiny_bert_folder, TINY.model_copy(update=more))


def test_the_trainers_loss_is_the_pure_one(tiny_bert_folder: Path) -> None:
    pairs = colour_pairs(0, graded=True)
    model = new_cross_encoder(tiny_bert_folder, TINY).eval()
    tokenizer = tokenizer_of(model)
    tokenised = tokenizer.pairs(pairs.user_texts, pairs.item_texts, pairs.group, pairs.item)
    collator = PairCollator(tokenizer, tokenised, pairs.label, pairs.indptr)
    batch = collator([{"unit": 3}, {"unit": 0}])
    labels = batch.pop("label")
    features = list(batch.values())
    logits = torch.tensor(
        [
            model.predict((pairs.user_texts[g], ITEMS[i]), activation_fn=nn.Identity(), show_progress_bar=False)
            for g, i in [(3, i) for i in pairs.item[18:24]] + [(0, i) for i in pairs.item[:6]]
        ]
    )
    torch.testing.assert_close(labels, torch.tensor(np.concatenate((pairs.label[18:24], pairs.label[:6]))))
    binary = nn.functional.binary_cross_entropy_with_logits(logits, labels)
    torch.testing.assert_close(RankerLoss(model, "bce")(features, labels), binary, atol=1e-5, rtol=0)
    shares, wanted = logits.view(2, 6).log_softmax(1), labels.view(2, 6)
    softmax = -(shares * wanted / wanted.sum(1, keepdim=True)).sum(1).mean()
    torch.testing.assert_close(RankerLoss(model, "softmax")(features, labels), softmax, atol=1e-5, rtol=0)


def test_batches_hold_every_row_once_and_rows_of_like_length() -> None:
    lengths = np.random.default_rng(0).integers(5, 90, 1_000)
    sampler = LengthGroupedBatches(None, lengths=lengths, batch_size=16, drop_last=False, seed=3)
    batches = list(sampler)
    assert len(batches) == len(sampler) == 63
    assert sorted(row for batch in batches for row in batch) == list(range(1_000))
    padded = sum(len(batch) * lengths[batch].max() for batch in batches)
    assert padded < 1.1 * lengths.sum()
    assert list(sampler) == batches
    sampler.set_epoch(1)
    assert list(sampler) != batches
    assert len(LengthGroupedBatches(None, lengths=lengths, batch_size=16, drop_last=True)) == 62


def test_deeper_layers_learn_more_slowly() -> None:
    names = [f"model.0.model.bert.encoder.layer.{layer}.output.dense.weight" for layer in range(3)]
    rates = layer_rates([*names, "model.0.model.classifier.weight"], 1e-4, 0.5)
    assert rates == {
        r"\.layers?\.0\.": 1.25e-5,
        r"\.layers?\.1\.": 2.5e-5,
        r"\.layers?\.2\.": 5e-5,
        "embeddings": 6.25e-6,
    }
    assert layer_rates(names, 1e-4, 1.0) == {}


def test_layer_decay_trains(tiny_bert_folder: Path, tmp_path: Path) -> None:
    run = train_ranker(
        colour_pairs(0),
        valid=None,
        start=tiny_bert_folder,
        out=tmp_path / "ranker",
        checkpoints=tmp_path / "work",
        settings=TINY.model_copy(update={"examples": 64, "layer_decay": 0.8}),
        device="cpu",
        console=_quiet(),
    )
    assert run.steps == 4


def test_a_budget_is_bounded_by_passes_and_by_tokens() -> None:
    assert budget_examples(1_000, 25.0) == 2_000
    assert budget_examples(1_000, 25.0, "quick") == 1_000
    assert budget_examples(10**6, 100.0) == TOKENS["default"] // 100
    assert budget_examples(0, 0.0) == 1
