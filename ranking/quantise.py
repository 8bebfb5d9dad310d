"""int8 of cross-encoders, by the inputs that their layers get of real pairs; see `retrieval.quantise`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import torch

from ranking.cross_encoder import logit_module, open_cross_encoder
from ranking.pair_tokens import PairBatch, PairTokenizer
from retrieval import quantise
from retrieval.quantise import Recipe
from retrieval.runtime import token_batches

PAIRS = 300  # that show what a model's layers get
# Half of the spread in the weights made scores worse than none of it. Weights have 7 bits, so that sums of two products
# fit 16 bits on CPUs without VNNI.
RECIPE = Recipe(smoothing=0.95, top=63, narrowing=True)


def calibrate(folder: Path, batches: Iterable[PairBatch]) -> None:
    """See which inputs the linear layers of a cross-encoder's folder get; see `retrieval.quantise.calibrate`."""
    model = open_cross_encoder(folder)
    module = logit_module(model)
    quantise.calibrate(model, lambda: [module(*map(torch.from_numpy, batch)) for batch in batches], folder, RECIPE)


def calibrate_on(folder: Path, pairs: Sequence[tuple[str, str]]) -> None:
    """`calibrate` on pairs of (user text, item text)."""
    tokenizer, every = PairTokenizer.load(folder), np.arange(len(pairs))
    tokenised = tokenizer.pairs([user for user, _ in pairs], [item for _, item in pairs], every, every)
    batches = token_batches(tokenizer.lengths(tokenised))
    calibrate(folder, (tokenizer.batch(tokenised.select(batch)) for batch in batches))
