"""A batch embedded in chunks has the vectors and the gradients of the batch embedded at once."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from sentence_transformers import SentenceTransformer
from torch import Tensor

from retrieval.training.gradient_cache import embed
from retrieval.training.losses import in_batch_softmax

pytestmark = pytest.mark.usefixtures("one_thread")
ASKED = ["red mug", "blue", "green chair table lamp", "large saw", "small oil"]
ITEMS = ["steel mug a", "drill b", "chair c", "saw", "hair mask oil argan"]


@pytest.fixture
def model(tiny_encoder_folder: Path) -> SentenceTransformer:
    made = SentenceTransformer(str(tiny_encoder_folder), device="cpu").train()
    rates = [part.p for part in made.modules() if isinstance(part, torch.nn.Dropout)]
    assert max(rates) > 0
    return made


def sides(model: SentenceTransformer) -> list[dict[str, Tensor]]:
    return [model.preprocess(texts, prompt="kitchen ") for texts in (ASKED, ITEMS)]


def gradients(model: SentenceTransformer, parts: list[Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
    """The loss over the whole batch, and its gradient by parameter."""
    asked, items = (torch.nn.functional.normalize(part, dim=1) for part in parts)
    loss = in_batch_softmax(asked, items, torch.eye(len(ASKED), dtype=torch.bool), temperature=0.1)
    model.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    return loss.detach(), {
        name: value.grad.clone() for name, value in model.named_parameters() if value.grad is not None
    }


def without_cache(model: SentenceTransformer, features: dict[str, Tensor], size: int) -> Tensor:
    """The same chunks, their activations kept."""
    parts = [
        {name: value[at : at + size] if isinstance(value, Tensor) else value for name, value in features.items()}
        for at in range(0, len(features["input_ids"]), size)
    ]
    return torch.cat([model(part)["sentence_embedding"] for part in parts])


@pytest.mark.parametrize("size", [1, 2, 5])
def test_gradients_under_dropout_are_those_of_the_same_batch_without_a_cache(
    model: SentenceTransformer, size: int
) -> None:
    torch.manual_seed(3)
    expected = gradients(model, [without_cache(model, features, size) for features in sides(model)])
    torch.manual_seed(3)
    found = gradients(model, [embed(model, features, size) for features in sides(model)])
    torch.testing.assert_close(found, expected)
    torch.manual_seed(4)
    other = gradients(model, [embed(model, features, size) for features in sides(model)])
    assert not torch.allclose(other[0], expected[0])  # dropout does draw


@pytest.mark.parametrize("size", [1, 2, 7])
def test_without_dropout_the_size_of_a_chunk_changes_nothing(model: SentenceTransformer, size: int) -> None:
    model.eval()
    whole = gradients(model, [embed(model, features) for features in sides(model)])
    torch.testing.assert_close(gradients(model, [embed(model, part, size) for part in sides(model)]), whole)


def test_no_more_than_a_chunk_is_embedded_at_once_and_twice_in_all(
    model: SentenceTransformer, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[int] = []
    forward = SentenceTransformer.forward

    def counted(self: SentenceTransformer, features: dict[str, Tensor]) -> dict[str, Tensor]:
        sizes.append(len(features["input_ids"]))
        return forward(self, features)

    monkeypatch.setattr(SentenceTransformer, "forward", counted)
    gradients(model, [embed(model, features, 2) for features in sides(model)])
    assert sorted(sizes) == [1] * 4 + [2] * 8
