"""Puts unlike items next to each other: maximal marginal relevance and determinantal point processes, greedily."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from retrieval.topk import Mask, Scores, Vectors

Floats = NDArray[np.float64]
Places = NDArray[np.int64]
LEAST_VOLUME = 1e-10  # squared volume that an item has to add, so that a list of equal items can be finished
LEAST_STRENGTH = 1e-3  # under which a determinant's part is nothing beside relevance


def diversified(
    method: str,
    scores: Scores,
    vectors: Vectors,
    first: int,
    strength: float,
    *,
    pinned: Mask | None = None,
    pick: Callable[[int, Floats], Places] | None = None,
) -> Places:
    """The old place of what stands at each place of n shortlists, int64 [n, k], the first `first` places chosen anew.

    Of a shortlist, relevance is its `scores` float32 [n, k] stretched to 0 to 1, and likeness the cosine of `vectors`
    float32 [n, k, dim], at least 0. `strength` from 0, which changes nothing, to 1, for which relevance decides between
    equally unlike items alone. A score that is not finite is a pad and stays behind; `pinned` bool [n, k] are chosen
    before all others. What is not chosen keeps its order. `pick`, given a place from 0 and what each item is worth
    there, float64 [n, k], -inf for what was chosen, gives the item to stand there, int64 [n]; by default the one worth
    most. `method` is a name of METHODS. All loops are over places, so that a batch costs little more than one request.
    """
    there = np.isfinite(scores)
    relevance = _stretched(scores, there)
    alike = _cosines(vectors)
    gain, chosen_so_far = METHODS[method](relevance, alike, strength), np.zeros(scores.shape, bool)
    lines, first = np.arange(len(scores)), min(first, scores.shape[1])
    picked = np.empty((len(scores), first), np.int64)
    front = np.zeros(scores.shape, bool) if pinned is None else pinned & there
    for place in range(first):
        value = np.where(there, gain.values(), -1e9)
        value = np.where(front, 1e9 - np.arange(scores.shape[1]), value)
        value[chosen_so_far] = -np.inf
        at = value.argmax(axis=1) if pick is None else pick(place, value)
        picked[:, place], chosen_so_far[lines, at], front[lines, at] = at, True, False
        gain.choose(lines, at)
    others = np.argsort(chosen_so_far, axis=1, kind="stable")[:, : scores.shape[1] - first]
    return np.concatenate([picked, others], axis=1)


class _MarginalRelevance:
    """Relevance less the likeness to the most similar item chosen before (Carbonell and Goldstein, SIGIR 1998)."""

    def __init__(self, relevance: Floats, alike: Floats, strength: float) -> None:
        self._relevance, self._alike, self._strength = relevance, alike, strength
        self._nearest = np.zeros_like(relevance)

    def values(self) -> Floats:
        """What each item would add, float64 [n, k]."""
        return (1 - self._strength) * self._relevance - self._strength * self._nearest

    def choose(self, lines: Places, at: Places) -> None:
        """Takes in the item at a place of each shortlist."""
        np.maximum(self._nearest, self._alike[lines, at], out=self._nearest)


class _Determinant:
    """The log volume that an item adds to those chosen, weighed against relevance (Chen et al., NeurIPS 2018).

    A row of the Cholesky factor is added for each item that is chosen.
    """

    def __init__(self, relevance: Floats, alike: Floats, strength: float) -> None:
        self._share, self._alike = max(strength, LEAST_STRENGTH), alike
        self._relevance = relevance
        self._volume = np.ones_like(relevance)
        self._rows: list[Floats] = []

    def values(self) -> Floats:
        """What each item would add, float64 [n, k]."""
        volume = np.log(np.maximum(self._volume, LEAST_VOLUME))
        return (1 - self._share) * self._relevance + self._share * volume

    def choose(self, lines: Places, at: Places) -> None:
        """Takes in the item at a place of each shortlist."""
        known = sum((row * row[lines, at][:, None] for row in self._rows), np.zeros_like(self._relevance))
        row = (self._alike[lines, at] - known) / np.sqrt(np.maximum(self._volume[lines, at], LEAST_VOLUME))[:, None]
        self._rows.append(row)
        self._volume = np.maximum(self._volume - row**2, 0)


METHODS: Mapping[str, Callable[[Floats, Floats, float], _MarginalRelevance | _Determinant]] = {
    "mmr": _MarginalRelevance,
    "dpp": _Determinant,
}


def _stretched(scores: Scores, there: Mask) -> Floats:
    """Scores [n, k] between 0 for the least and 1 for the largest of a shortlist; 0 at a pad."""
    largest = np.where(there, scores, -np.inf).max(axis=1, keepdims=True, initial=-np.inf)
    least = np.where(there, scores, np.inf).min(axis=1, keepdims=True, initial=np.inf)
    known = np.isfinite(largest) & np.isfinite(least)
    least, span = np.where(known, least, 0.0), np.where(known, largest - np.where(known, least, 0.0), 1.0)
    stretched = (np.where(there, scores, least) - least) / np.where(span > 0, span, 1.0)
    return np.asarray(np.where(there, stretched, 0.0), np.float64)


def _cosines(vectors: Vectors) -> Floats:
    """The cosine of all pairs of a shortlist, float64 [n, k, k], at least 0; 0 for a vector of zeros."""
    norms = np.sqrt(np.einsum("nkd,nkd->nk", vectors, vectors))[:, :, None]
    unit = vectors / np.maximum(norms, np.float32(1e-12))
    return np.asarray(np.clip(unit @ unit.transpose(0, 2, 1), 0, 1), np.float64)
