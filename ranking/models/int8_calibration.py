"""int8 of cross-encoders, by what their layers get of real pairs; see `retrieval.calibrate`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from ranking.models.cross_encoder import logit_module, open_cross_encoder
from ranking.models.pair_tokens import PairBatch, PairTokenizer
from retrieval.encoders.int8_calibration import Recipe, alike, calibrate
from retrieval.encoders.int8_file import INT8
from retrieval.encoders.int8_layers import quantise

PAIRS, TOKENS = 1_000, 40_000  # that show what a model's layers get, at most
# Half of the spread in the weights made scores worse than none of it. Weights have 7 bits, so that sums of two products
# fit 16 bits on CPUs without VNNI.
RECIPE = Recipe(smoothing=0.9, top=63)
# Of so many pairs one is not shown, by which it is seen what became of the logits; of few pairs all are, and seen by.
HELD_OUT, FEW = 10, 200
LEAST = 0.99  # correlation of logits with those in floats


def calibrate_int8(
    folder: Path, pairs: Sequence[tuple[str, str]], *, say: Callable[[str], None] = lambda told: None
) -> None:
    """`calibrate` a cross-encoder's folder on pairs of (user text, item text). One whose logits suffer is left without
    whole numbers, and so is served in floats, which is told to `say`."""
    model, tokenizer, every = open_cross_encoder(folder), PairTokenizer.load(folder), np.arange(len(pairs))
    tokenised = tokenizer.pairs([user for user, _ in pairs], [item for _, item in pairs], every, every)
    drawn = np.random.default_rng(0).permutation(len(pairs))
    held_out = every if len(pairs) < FEW else np.sort(drawn[: len(pairs) // HELD_OUT])
    shown = every if len(pairs) < FEW else np.delete(every, held_out)

    def batches(rows: NDArray[np.int64]) -> list[PairBatch]:
        some = tokenised.select(rows)
        return [tokenizer.batch(some.select(batch)) for batch in alike(tokenizer.lengths(some), TOKENS)]

    module = logit_module(model)
    seen, others = batches(shown), batches(held_out)
    calibrate(model, lambda: _logits(module, seen), folder, RECIPE)
    exact = _logits(module, others)
    quantise(model, folder)
    if not _go_together(exact, _logits(module, others)):
        (folder / INT8).unlink()
        say(f"{folder.name}: served in floats, whose logits those in int8 go with by less than {LEAST}")


def _go_together(some: NDArray[np.float32], others: NDArray[np.float32]) -> bool:
    return min(some.std(), others.std()) > 0 and float(np.corrcoef(some, others)[0, 1]) >= LEAST


def _logits(module: nn.Module, batches: Iterable[PairBatch]) -> NDArray[np.float32]:
    with torch.inference_mode():
        return np.concatenate([module(*map(torch.from_numpy, batch)).float().numpy() for batch in batches])
