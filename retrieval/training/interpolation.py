"""How far a fine-tuned text encoder moves from the pretrained one: weights between the two, chosen on held-out queries.

Interpolated weights keep what the pretrained model knew of texts that training did not show, and are often better than
either end (Wortsman et al. 2022, "Robust fine-tuning of zero-shot models", WiSE-FT).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from sentence_transformers import SentenceTransformer
from torch import Tensor

from retrieval.encoders.runtime import training_bf16
from retrieval.metrics.ranking import by_score, ndcg_at
from retrieval.topk import CSR, exact_topk
from retrieval.training.text_pairs import TextPairs

SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)  # of the way from the pretrained weights to the tuned ones
MIN_QUERIES = 20  # below which no figure shows that tuning helped, as in the gate of the ranker
TRIED_QUERIES, TRIED_ITEMS = 300, 500  # queries that are ranked at most, and random items beside the judged ones
State: TypeAlias = Mapping[str, Tensor]


class SearchTrial:
    """nDCG@10 of at most 300 queries, over their judged items and a sample of 500 others.

    `pairs` are graded: the items that each owner's query should find, and others of grade 0.
    """

    def __init__(self, pairs: TextPairs, item_texts: Sequence[str], rng: np.random.Generator) -> None:
        owners, first = np.unique(pairs.owner, return_index=True)
        chosen = np.sort(rng.permutation(len(owners))[:TRIED_QUERIES])
        self.queries = [pairs.text[at] for at in first[chosen]]
        within = pairs.take(np.flatnonzero(np.isin(pairs.owner, owners[chosen])))
        rows = np.union1d(within.item, rng.permutation(len(item_texts))[:TRIED_ITEMS])
        self.items = [item_texts[row] for row in rows]
        keys = np.searchsorted(owners[chosen], within.owner) * len(rows) + np.searchsorted(rows, within.item)
        distinct, at = np.unique(keys, return_inverse=True)
        self.grades = np.zeros(len(distinct), np.float32)
        np.maximum.at(self.grades, at, within.grades)
        indptr = np.searchsorted(distinct, np.arange(len(chosen) + 1) * len(rows))
        self.judged = CSR(indptr.astype(np.int64), distinct % len(rows))

    def __call__(self, model: SentenceTransformer) -> NDArray[np.float64]:
        """Each query's nDCG@10, float64 [n_queries]: the mean of that among all items and that among its judged ones
        alone, where those differ in grade; NaN where no item answers it."""
        with torch.autocast(model.device.type, torch.bfloat16, enabled=training_bf16(model.device.type)):
            queries = model.encode_query(self.queries, normalize_embeddings=True)
            items = model.encode_document(self.items, normalize_embeddings=True)
        found = ndcg_at(exact_topk(queries, items, 10), self.judged, 10, grades=self.grades)
        scores = np.einsum("nd,nd->n", queries[self.judged.owners], items[self.judged.rows])
        ordered = ndcg_at(by_score(self.judged, scores), self.judged, 10, grades=self.grades)
        return np.where(self._differ(), (found + ordered) / 2, found)

    def _differ(self) -> NDArray[np.bool_]:
        lowest, highest = np.ones(self.judged.n_lists), np.zeros(self.judged.n_lists)
        np.minimum.at(lowest, self.judged.owners, self.grades)
        np.maximum.at(highest, self.judged.owners, self.grades)
        return lowest < highest


def interpolated(pretrained: State, tuned: State, share: float) -> dict[str, Tensor]:
    """The weights `share` of the way from `pretrained` to `tuned`; what is no floating-point number is as tuned."""
    return {
        name: pretrained[name].lerp(value, share) if value.is_floating_point() else value
        for name, value in tuned.items()
    }


def trial_scores(
    model: SentenceTransformer, pretrained: State, trial: Callable[[SentenceTransformer], NDArray[np.float64]]
) -> NDArray[np.float64]:
    """The trial's figures of each of SHARES, float64 [n_shares, n_queries]; the tuned `model` is left as it was."""
    tuned = {name: value.detach().clone() for name, value in model.state_dict().items()}
    scores = []
    for share in SHARES:
        model.load_state_dict(interpolated(pretrained, tuned, share))
        scores.append(trial(model))
    model.load_state_dict(tuned)
    return np.stack(scores)


def cautious_share(scores: NDArray[np.float64]) -> float:
    """The least of SHARES whose mean is within one standard error of the best one's, by paired differences.

    `scores` float64 [n_shares, n_queries], NaN where a query has no figure. 0 with fewer than MIN_QUERIES figures. The
    rule of one standard error follows Breiman et al. 1984.

    >>> cautious_share(np.repeat([[0.1], [0.2], [0.3], [0.3], [0.2]], 30, axis=1))
    0.5
    """
    known = scores[:, ~np.isnan(scores).any(axis=0)]
    n = known.shape[1]
    if n < MIN_QUERIES:
        return 0.0
    behind = known[known.mean(axis=1).argmax()] - known
    errors = behind.std(axis=1, ddof=1) / np.sqrt(n)
    return SHARES[int(np.flatnonzero(behind.mean(axis=1) <= errors)[0])]
