"""The loss of the text part as a trainer calls it: who is whose negative, and what the candidates are."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from sentence_transformers import SentenceTransformer
from torch import Tensor, nn

from retrieval.settings import TextConfig
from retrieval.topk import CSR
from retrieval.training.gradient_cache import embed
from retrieval.training.losses import (
    catalogue_bce,
    graded_mse,
    in_batch_softmax,
    log_expected_count,
    margin_distillation,
    matryoshka,
    own_items,
)
from retrieval.training.text_pairs import TextPairs


class KnownPositives:
    """Whether an owner is known to like an item, for whole batches at once."""

    def __init__(self, known: CSR, n_items: int) -> None:
        self.n_items = n_items
        self.keys = torch.from_numpy(np.unique(known.owners * n_items + known.rows))

    def __call__(self, owner: Tensor, item: Tensor) -> Tensor:
        """int64 [b], int64 [n] -> bool [b, n]."""
        wanted = owner[:, None] * self.n_items + item[None, :]
        keys = self.keys.to(wanted.device)
        at = torch.searchsorted(keys, wanted).clamp(max=max(0, len(keys) - 1))
        return keys[at] == wanted if len(keys) else torch.zeros_like(wanted, dtype=torch.bool)


class Candidates(NamedTuple):
    """What the pairs of a batch stand against; the first b are the pairs' own items."""

    vectors: Tensor  # float [n_candidates, dim]
    masked: Tensor  # bool [b, n_candidates], no negatives: known to be good, or there before
    log_q: Tensor | None  # float [n_candidates]


class TextLoss(nn.Module):
    """A loss of `retrieval.losses` in the form that the trainer calls.

    `known` are the positives of the owners of `pairs`, which item frequencies are counted in.
    """

    def __init__(self, model: SentenceTransformer, pairs: TextPairs, n_items: int, config: TextConfig) -> None:
        super().__init__()
        self.model, self.config = model, config
        self.known = KnownPositives(pairs.known, n_items)
        counts = np.bincount(pairs.item, minlength=n_items)
        self.frequency = torch.from_numpy(counts / max(1, len(pairs))).float()

    def forward(self, sentence_features: Iterable[dict[str, Tensor]], labels: dict[str, Tensor]) -> Tensor:
        """Features of the b askers, of their items, and of the m mined negatives if there are any; `labels` as
        `TextBatches` makes them."""
        parts = [embed(self.model, features, self.config.mini_batch) for features in sentence_features]
        asked, items = parts[0], torch.cat(parts[1:])
        dims = (*self.config.matryoshka, asked.shape[1])
        if self.config.loss == "mse":
            return matryoshka(partial(self._graded, grades=labels["grade"]), dims, asked, items)
        candidates = self._candidates(items, labels)
        apart = partial(self._against, candidates=candidates, labels=labels)
        return matryoshka(apart, dims, asked, candidates.vectors)

    def _graded(self, asked: Tensor, items: Tensor, grades: Tensor) -> Tensor:
        return graded_mse((asked * items).sum(dim=1), grades)

    def _candidates(self, items: Tensor, labels: dict[str, Tensor]) -> Candidates:
        """The batch's items and the mined negatives, each item once where mined negatives or log_q ask for it."""
        mined = labels["negative"]
        rows = torch.cat([labels["item"], mined])
        masked = self.known(labels["owner"], rows)
        if self.config.log_q or len(rows) > len(labels["item"]):
            masked = masked | _repeats(rows) | (rows == labels["item"][:, None])
        if not self.config.log_q:
            return Candidates(items, masked, None)
        drawn = len(labels["item"])  # mined negatives count as even draws, which fit them best
        frequency = self.frequency.to(rows.device)
        even = torch.full_like(frequency, 1 / len(frequency))
        log_q = log_expected_count((frequency, drawn), (even, len(mined)))[rows]
        return Candidates(items, masked, log_q)

    def _against(self, asked: Tensor, vectors: Tensor, candidates: Candidates, labels: dict[str, Tensor]) -> Tensor:
        """The ranking loss of unit vectors, with the teacher's margins where they count."""
        temperature, masked = self.config.temperature, candidates.masked
        if self.config.loss == "bce":
            own = torch.arange(len(asked), device=asked.device)
            pair, candidate = (masked | own_items(masked)).nonzero(as_tuple=True)
            loss = catalogue_bce(asked @ vectors.T / temperature, own, own, (pair, candidate))
        else:
            loss = in_batch_softmax(asked, vectors, masked, temperature=temperature, log_q=candidates.log_q)
        if not self.config.distil:
            return loss
        return loss + self.config.distil * self._margins(asked, vectors, labels)

    def _margins(self, asked: Tensor, vectors: Tensor, labels: dict[str, Tensor]) -> Tensor:
        """Margin-MSE over every pair's own hard negatives, student and teacher both as logits."""
        pair, place = (labels["mined"] >= 0).nonzero(as_tuple=True)
        if not len(pair):
            return asked.new_zeros(())
        own = (asked * vectors[: len(asked)]).sum(dim=1) / self.config.temperature
        hard = vectors[len(asked) + labels["mined"][pair, place]]
        negative = (asked[pair] * hard).sum(dim=1) / self.config.temperature
        teacher = labels["teacher"]
        return margin_distillation(own[pair], negative, teacher[pair, 0], teacher[pair, 1 + place])


def _repeats(rows: Tensor) -> Tensor:
    """Which of the rows stand among those before them, bool [n].

    >>> _repeats(torch.tensor([3, 1, 3, 3])).tolist()
    [False, False, True, True]
    """
    ordered, order = torch.sort(rows, stable=True)
    repeats = torch.zeros_like(rows, dtype=torch.bool)
    repeats[order[1:]] = ordered[1:] == ordered[:-1]
    return repeats
