"""A model on a CUDA device gives what it gives on the CPU, from a graph or not, to many threads, in every shape."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ranking.models.cross_encoder import served_module
from retrieval.encoders import cuda
from retrieval.encoders.cuda import GRAPH_MULTIPLE, graph_inputs, graph_rows
from retrieval.encoders.text_encoder import sentence_module

TEXTS = [" ".join(["red mug", "cordless drill", "argan oil mask"][n % 3] for _ in range(n % 17)) for n in range(150)]


@given(rows=st.integers(1, 300), length=st.integers(1, 130), longest=st.integers(100, 140))
def test_a_batch_for_a_graph_keeps_what_it_held_and_its_added_rows_read_one_token(
    rows: int, length: int, longest: int
) -> None:
    rng = np.random.default_rng(rows)
    batch = [rng.integers(0, 9, (rows, length)) for _ in range(3)]
    inputs = graph_inputs(*batch, longest)
    padded = -(-length // GRAPH_MULTIPLE) * GRAPH_MULTIPLE
    assert inputs.shape[1:] == (graph_rows(rows), max(length, min(padded, longest)))
    assert (inputs[:, :rows, :length] == batch).all()
    assert not inputs[1, :rows, length:].any()
    assert (inputs[1, rows:].sum(axis=1) == 1).all()


def test_rows_of_graphs_are_few_and_waste_at_most_a_quarter() -> None:
    found = [graph_rows(n) for n in range(1, 1_025)]
    assert all(n <= rows <= 1.25 * n for n, rows in enumerate(found, start=1))
    assert len(set(found)) == 36


class Sums(torch.nn.Module):
    """Sums and number of the tokens read, in the precision of its weight."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(()))

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor, segments: torch.Tensor) -> torch.Tensor:
        rows = [(input_ids * attention_mask).sum(1), (segments * attention_mask).sum(1), attention_mask.sum(1)]
        return torch.stack(rows, dim=1) * self.weight


def test_an_encoder_in_bf16_still_gives_unit_vectors_near_its_own(tiny_encoder_folder: Path) -> None:
    ids = torch.arange(64).reshape(4, 16) % 30 + 5
    batch = (ids, torch.ones_like(ids), torch.zeros_like(ids))
    whole, half = (sentence_module(tiny_encoder_folder, bf16=bf16) for bf16 in (False, True))
    with torch.inference_mode():
        wanted, found = whole(*batch), half(*batch)
    assert found.dtype == torch.float32
    assert {weight.dtype for weight in half.model[0].parameters()} == {torch.bfloat16}
    torch.testing.assert_close(found.norm(dim=1), torch.ones(4), atol=1e-6, rtol=0)
    assert 0.99 < float((found * wanted).sum(dim=1).min()) < 1 - 1e-7


def test_a_cross_encoder_in_bf16_tells_logits_apart_that_bfloat16_cannot(tiny_ranker_folder: Path) -> None:
    ids = torch.randint(5, 60, (200, 12), generator=torch.Generator().manual_seed(0))
    batch = (ids, torch.ones_like(ids), torch.zeros_like(ids))
    with torch.inference_mode():
        wanted, found = (served_module(tiny_ranker_folder, bf16=bf16)(*batch) for bf16 in (False, True))
    assert found.dtype == torch.float32
    assert len(torch.unique(found)) > len(torch.unique(found.bfloat16()))
    assert float(torch.corrcoef(torch.stack([found, wanted]))[0, 1]) > 0.99


@pytest.mark.gpu
@pytest.mark.parametrize("graphs", [True, False])
def test_rows_are_those_of_the_texts_in_any_number_of_threads(graphs: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    from retrieval.encoders.cuda import CudaRunner

    monkeypatch.setattr(cuda, "MAX_GRAPHS", 4)
    runner = CudaRunner(Sums(), 512, graphs=graphs)
    rng = np.random.default_rng(0)
    batches = [rng.integers(0, 99, (3, rows, length)) for rows in (1, 2, 7, 40) for length in range(1, 120, 3)]

    def right(batch: Any) -> bool:
        batch[1] %= 2
        found = runner(*batch)
        wanted = [(batch[0] * batch[1]).sum(1), (batch[2] * batch[1]).sum(1), batch[1].sum(1)]
        return bool((found == np.stack(wanted, axis=1)).all())

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(right, batches * 3))
    assert len(runner._graphs) == (4 if graphs else 0)


@pytest.mark.gpu
def test_text_vectors_are_those_of_the_cpu(tiny_encoder_folder: Path) -> None:
    from retrieval.encoders.text_encoder import TextEncoder

    wanted = TextEncoder.load(tiny_encoder_folder, runtime="torch", device="cpu").encode(TEXTS)
    whole = TextEncoder.load(tiny_encoder_folder, device="cuda", precision="fp32").encode(TEXTS)
    np.testing.assert_allclose(whole, wanted, atol=1e-5)
    half = TextEncoder.load(tiny_encoder_folder, device="cuda").encode(TEXTS)
    np.testing.assert_allclose(np.linalg.norm(half, axis=1), 1, atol=1e-5)
    assert np.median((half * wanted).sum(axis=1)) > 0.999


@pytest.mark.gpu
def test_logits_are_those_of_the_cpu_whatever_else_is_in_the_batch(tiny_ranker_folder: Path) -> None:
    from ranking.models.cross_encoder import CrossEncoderScorer

    pairs = [("red mug", text) for text in TEXTS]
    wanted = CrossEncoderScorer.load(tiny_ranker_folder, runtime="torch", device="cpu").score(pairs)
    scorer = CrossEncoderScorer.load(tiny_ranker_folder, device="cuda", precision="fp32")
    np.testing.assert_allclose(scorer.score(pairs), wanted, atol=1e-4)
    np.testing.assert_allclose([scorer.score([pair])[0] for pair in pairs[:20]], wanted[:20], atol=1e-4)
    half = CrossEncoderScorer.load(tiny_ranker_folder, device="cuda")
    assert str(half.placement) == "cuda: torch, bf16"
    assert np.corrcoef(half.score(pairs), wanted)[0, 1] > 0.99
