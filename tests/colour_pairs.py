"""Requests that ask for a colour, and items of it: a preference that a tiny cross-encoder learns."""

from __future__ import annotations

import numpy as np

from ranking.training.pairs import GradeScale, PairSet, judged_pairs

COLOURS = ("red", "blue", "green")
THINGS = ("mug", "drill", "saw", "lamp", "chair", "table")
ITEMS = [f"{colour} {thing}" for colour in COLOURS for thing in THINGS]


def colour_pairs(seed: int, *, graded: bool = False) -> PairSet:
    """40 requests with six items each; items of the colour are wanted."""
    random = np.random.default_rng(seed)
    asked = random.integers(0, 3, 40)
    item = np.stack([random.permutation(len(ITEMS))[:6] for _ in asked])
    wanted = item // len(THINGS) == asked[:, None]
    grade = np.where(wanted, 3.0, np.where(random.random(item.shape) < 0.5, 2.0, 1.0) if graded else 1.0)
    return judged_pairs(
        np.repeat(np.arange(40), 6),
        item.ravel(),
        grade.ravel(),
        query_texts=[COLOURS[colour] for colour in asked],
        item_texts=ITEMS,
        scale=GradeScale(1.0, 3.0),
    )
