"""A last layer that computes one token gives the same logits and gradients."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from sentence_transformers import CrossEncoder

from ranking.models.first_token import read_first_token_only

pytestmark = pytest.mark.usefixtures("one_thread")

PAIRS = [("red mug", "steel mug kitchen"), ("cordless drill saw hammer", "drill"), ("", "argan oil mask")]


def _logits(model: CrossEncoder) -> torch.Tensor:
    return model(model.preprocess(PAIRS))["scores"][:, 0]


def test_logits_and_gradients_stay_the_same(tiny_ranker_folder: Path) -> None:
    whole = CrossEncoder(str(tiny_ranker_folder), device="cpu").eval()
    short = CrossEncoder(str(tiny_ranker_folder), device="cpu").eval()
    assert read_first_token_only(short)
    torch.testing.assert_close(_logits(short), _logits(whole), atol=1e-5, rtol=0)
    for model in (whole, short):
        _logits(model).sum().backward()
    for (name, ours), (_, theirs) in zip(short.named_parameters(), whole.named_parameters(), strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad, atol=1e-4, rtol=1e-4, msg=name)


def test_the_last_layer_really_gives_one_token(tiny_ranker_folder: Path) -> None:
    model = CrossEncoder(str(tiny_ranker_folder), device="cpu")
    read_first_token_only(model)
    shapes: list[torch.Size] = []
    model.model.bert.encoder.register_forward_hook(lambda *call: shapes.append(call[-1].last_hidden_state.shape))
    _logits(model)
    assert shapes[0][1] == 1


def test_what_is_saved_opens_without_us(tiny_ranker_folder: Path, tmp_path: Path) -> None:
    model = CrossEncoder(str(tiny_ranker_folder), device="cpu")
    read_first_token_only(model)
    wanted = model.predict(PAIRS, show_progress_bar=False)
    model.save_pretrained(str(tmp_path), create_model_card=False)
    got = CrossEncoder(str(tmp_path), device="cpu").predict(PAIRS, show_progress_bar=False)
    torch.testing.assert_close(torch.tensor(got), torch.tensor(wanted), atol=1e-5, rtol=0)
