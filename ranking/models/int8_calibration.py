"""int8 calibration of cross-encoders on real pairs; see `retrieval.encoders.int8_calibration`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from ranking.models.cross_encoder import logit_module, open_cross_encoder
from ranking.models.pair_tokens import PairBatch, PairTokenizer
from retrieval.encoders.int8_calibration import Recipe, calibrate, same_length_batches
from retrieval.encoders.int8_file import INT8
from retrieval.encoders.int8_layers import quantise

PAIRS, TOKENS = 1_000, 40_000  # calibration pairs at most, and tokens of one batch
# Smoothing of 0.5 made scores worse than none. Weights have 7 bits, so that sums of two products fit 16 bits on CPUs
# without VNNI.
RECIPE = Recipe(smoothing=0.9, top=63)
HELD_OUT, FEW = 10, 200  # one pair in ten is held out to check the logits; below 200 pairs, all calibrate and check
MIN_CORRELATION = 0.99  # of int8 logits with float logits


def calibrate_int8(
    folder: Path,
    pairs: Sequence[tuple[str, str]],
    *,
    work: Path | None = None,
    say: Callable[[str], None] = lambda line: None,
) -> None:
    """Add an int8 calibration, made on pairs (user text, item text), to a cross-encoder's folder. In `work` lies what
    an interrupted calibration goes on from; the caller removes it.

    Where int8 logits correlate with float ones by less than 0.99, no calibration is written, so that the model is
    served in floats, and `say` is called with a line about it.
    """
    model, tokenizer, every = open_cross_encoder(folder), PairTokenizer.load(folder), np.arange(len(pairs))
    tokenised = tokenizer.pairs([user for user, _ in pairs], [item for _, item in pairs], every, every)
    drawn = np.random.default_rng(0).permutation(len(pairs))
    held_out = every if len(pairs) < FEW else np.sort(drawn[: len(pairs) // HELD_OUT])
    calibrating = every if len(pairs) < FEW else np.delete(every, held_out)

    def batches(rows: NDArray[np.int64]) -> list[PairBatch]:
        some = tokenised.select(rows)
        return [tokenizer.batch(some.select(batch)) for batch in same_length_batches(tokenizer.lengths(some), TOKENS)]

    module = logit_module(model)
    seen, others = batches(calibrating), batches(held_out)
    calibrate(model, lambda: _logits(module, seen), folder, RECIPE, work=work)
    exact = _logits(module, others)
    quantise(model, folder)
    if not _correlate(exact, _logits(module, others)):
        (folder / INT8).unlink()
        say(f"{folder.name}: served in floats, as int8 logits correlate with them by less than {MIN_CORRELATION}")


def _correlate(some: NDArray[np.float32], others: NDArray[np.float32]) -> bool:
    return min(some.std(), others.std()) > 0 and float(np.corrcoef(some, others)[0, 1]) >= MIN_CORRELATION


def _logits(module: nn.Module, batches: Iterable[PairBatch]) -> NDArray[np.float32]:
    with torch.inference_mode():
        return np.concatenate([module(*map(torch.from_numpy, batch)).float().numpy() for batch in batches])
