"""The loss of the text encoder in the form the trainer calls: candidates, masks and the chosen loss function."""

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
    """Looks up whether an item is a known positive of an owner, for whole batches at once."""

    def __init__(self, known: CSR, n_items: int) -> None:
        self.n_items = n_items
        self.keys = torch.from_numpy(np.unique(known.owners * n_items + known.rows))

    def __call__(self, owner: Tensor, item: Tensor) -> Tensor:
        """Owners int64 [b] and item rows int64 [n] to a mask bool [b, n], true where the item is a known positive."""
        wanted = owner[:, None] * self.n_items + item[None, :]
        keys = self.keys.to(wanted.device)
        at = torch.searchsorted(keys, wanted).clamp(max=max(0, len(keys) - 1))
        return keys[at] == wanted if len(keys) else torch.zeros_like(wanted, dtype=torch.bool)


class BatchCandidates(NamedTuple):
    """The candidates of a batch of b pairs; the first b are the pairs' own items, in order."""

    vectors: Tensor  # float [n_candidates, dim]
    masked: Tensor  # bool [b, n_candidates], not to be used as negatives: known positives and repeats
    log_q: Tensor | None  # float [n_candidates], log of the expected count of each; None: no correction


class TextLoss(nn.Module):
    """A loss of `retrieval.training.losses` in the form that the trainer calls.

    `pairs` give the known positives of each owner and the item frequencies of the logQ correction. Pairs weigh by their
    grades in a ranking loss.
    """

    def __init__(self, model: SentenceTransformer, pairs: TextPairs, n_items: int, config: TextConfig) -> None:
        super().__init__()
        self.model, self.config = model, config
        self.known = KnownPositives(pairs.known, n_items)
        counts = np.bincount(pairs.item, minlength=n_items)
        self.frequency = torch.from_numpy(counts / max(1, len(pairs))).float()

    def forward(self, sentence_features: Iterable[dict[str, Tensor]], labels: dict[str, Tensor]) -> Tensor:
        """The loss, a scalar. `sentence_features` are those of the b queries, of their items, and of the m hard
        negatives, if any; `labels` as `TextBatches` makes them."""
        parts = [embed(self.model, features, self.config.mini_batch) for features in sentence_features]
        queries, items = parts[0], torch.cat(parts[1:])
        dims = (*self.config.matryoshka, queries.shape[1])
        if self.config.loss == "mse":
            return matryoshka(partial(self._graded, grades=labels["grade"]), dims, queries, items)
        candidates = self._candidates(items, labels)
        loss = partial(self._ranking_loss, candidates=candidates, labels=labels)
        return matryoshka(loss, dims, queries, candidates.vectors)

    def _graded(self, queries: Tensor, items: Tensor, grades: Tensor) -> Tensor:
        return graded_mse((queries * items).sum(dim=1), grades)

    def _candidates(self, items: Tensor, labels: dict[str, Tensor]) -> BatchCandidates:
        """The batch's items, then its hard negatives; repeats are masked if there are such or a correction."""
        mined = labels["negative"]
        rows = torch.cat([labels["item"], mined])
        masked = self.known(labels["owner"], rows)
        if self.config.log_q or len(rows) > len(labels["item"]):
            masked = masked | _repeats(rows) | (rows == labels["item"][:, None])
        if not self.config.log_q:
            return BatchCandidates(items, masked, None)
        drawn = len(labels["item"])  # hard negatives count as uniform draws, which is nearest to how they come about
        frequency = self.frequency.to(rows.device)
        uniform = torch.full_like(frequency, 1 / len(frequency))
        log_q = log_expected_count((frequency, drawn), (uniform, len(mined)))[rows]
        return BatchCandidates(items, masked, log_q)

    def _ranking_loss(
        self, queries: Tensor, vectors: Tensor, candidates: BatchCandidates, labels: dict[str, Tensor]
    ) -> Tensor:
        """The ranking loss of unit vectors, plus the weighted distillation loss where `distil` is set."""
        temperature, masked, weight = self.config.temperature, candidates.masked, labels["grade"]
        if self.config.loss == "bce":
            own = torch.arange(len(queries), device=queries.device)
            pair, candidate = (masked | own_items(masked)).nonzero(as_tuple=True)
            loss = catalogue_bce(queries @ vectors.T / temperature, own, own, (pair, candidate), weight)
        else:
            log_q = candidates.log_q
            loss = in_batch_softmax(queries, vectors, masked, temperature=temperature, log_q=log_q, weight=weight)
        if not self.config.distil:
            return loss
        return loss + self.config.distil * self._distillation(queries, vectors, labels)

    def _distillation(self, queries: Tensor, vectors: Tensor, labels: dict[str, Tensor]) -> Tensor:
        """Margin-MSE between the student's and the teacher's logits, over every pair's own hard negatives."""
        pair, place = (labels["mined"] >= 0).nonzero(as_tuple=True)
        if not len(pair):
            return queries.new_zeros(())
        own = (queries * vectors[: len(queries)]).sum(dim=1) / self.config.temperature
        hard = vectors[len(queries) + labels["mined"][pair, place]]
        negative = (queries[pair] * hard).sum(dim=1) / self.config.temperature
        teacher = labels["teacher"]
        return margin_distillation(own[pair], negative, teacher[pair, 0], teacher[pair, 1 + place])


def _repeats(rows: Tensor) -> Tensor:
    """Which of the rows occurred earlier in the same tensor, bool [n].

    >>> _repeats(torch.tensor([3, 1, 3, 3])).tolist()
    [False, False, True, True]
    """
    ordered, order = torch.sort(rows, stable=True)
    repeats = torch.zeros_like(rows, dtype=torch.bool)
    repeats[order[1:]] = ordered[1:] == ordered[:-1]
    return repeats
