"""int8 of cross-encoders, by what their layers get of real pairs; see `retrieval.calibrate`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from ranking.cross_encoder import logit_module, open_cross_encoder
from ranking.pair_tokens import PairTokenizer
from retrieval.calibrate import Recipe, calibrate, of_one_length

PAIRS = 1_000  # that show what a model's layers get
# Half of the spread in the weights made scores worse than none of it. Weights have 7 bits, so that sums of two products
# fit 16 bits on CPUs without VNNI.
RECIPE = Recipe(smoothing=0.9, top=63)


def calibrate_on(folder: Path, pairs: Sequence[tuple[str, str]]) -> None:
    """`calibrate` a cross-encoder's folder on pairs of (user text, item text)."""
    model, tokenizer, every = open_cross_encoder(folder), PairTokenizer.load(folder), np.arange(len(pairs))
    tokenised = tokenizer.pairs([user for user, _ in pairs], [item for _, item in pairs], every, every)
    batches = [tokenizer.batch(tokenised.select(rows)) for rows in of_one_length(tokenizer.lengths(tokenised))]
    module = logit_module(model)
    calibrate(model, lambda: [module(*map(torch.from_numpy, batch)) for batch in batches], folder, RECIPE)
