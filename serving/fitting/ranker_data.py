"""What a ranker learns from, and how long: read by whatever trains one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypedDict

import numpy as np

from ranking.training.initial_model import relative_cost
from ranking.training.pairs import PairSet
from ranking.training.settings import RankerTraining, budget_examples
from retrieval.settings import Budget

TOKENS_PER_BYTE = 0.25  # of English and of Chinese text, for the budget's estimate


@dataclass(frozen=True)
class RankerData:
    """Pairs for the ranker: training, validation, and how many positives retrieval had found.

    `proposed` are the pairs that a model is distilled on: those of training and, where these are judged ones, further
    candidates of the same queries, whose labels mean nothing. None where no model is distilled.
    """

    train: PairSet
    valid: PairSet
    usable: int
    proposed: PairSet | None = None


class Training(TypedDict):
    """Arguments of every training of a run: its budget, its device, and a function that prints progress."""

    budget: Budget
    device: str
    say: Callable[[str], None]


def budgeted(pairs: PairSet, settings: RankerTraining, start: str, training: Training) -> RankerTraining:
    """The settings with the number of pairs to read: their own, else what the budget reads of such pairs with a model
    of the size of `start`."""
    cost = relative_cost(start, settings)
    reads = settings.examples or budget_examples(len(pairs), mean_tokens(pairs), training["budget"], cost=cost)
    return settings.model_copy(update={"examples": reads})


def mean_tokens(pairs: PairSet, sample: int = 2_000) -> float:
    """About how many tokens a pair has, from the bytes of a sample of its texts."""
    at = np.linspace(0, max(0, len(pairs) - 1), min(sample, len(pairs))).astype(int)
    group = pairs.group
    texts = (pairs.user_texts[group[i]] + pairs.item_texts[pairs.item[i]] for i in at)
    lengths = [len(text.encode()) for text in texts]
    return 3.0 + TOKENS_PER_BYTE * float(np.mean(lengths)) if lengths else 3.0
