"""Hard negatives: items that a model ranks high for a query and that are not known to answer it.

They are mined again during training, as the model changes (Xiong et al. 2021, "ANCE").
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from sentence_transformers import SentenceTransformer

from retrieval.progress import ProgressMeter
from retrieval.settings import TextConfig
from retrieval.topk import CSR, Mask, Rows, Scores, Vectors, exact_topk
from retrieval.training.text_pairs import TextPairs

ENCODED_AT_ONCE = 1_024


def mine_negatives(
    queries: Vectors,
    items: Vectors,
    positive: Rows,
    known: CSR,
    *,
    count: int,
    window: tuple[int, int],
    margin: float | None,
    rng: np.random.Generator,
    pool: Mask | None = None,
) -> Rows:
    """`count` hard negatives of each query, int64 [n_queries, count] rows of `items`; -1 pads where there are fewer.

    They are drawn uniformly from the ranks `window[0]` (inclusive) to `window[1]` (exclusive) of the query's ranking,
    from which the rows that `known` lists as relevant to it are removed. `positive` int64 [n_queries] is the row that
    the query is trained to find. A candidate whose score exceeds the positive's minus `margin` is a likely false
    negative and left out (Moreira et al. 2024); None keeps them all. `pool` bool [n_items] limits what may be drawn.
    """
    found = exact_topk(queries, items, window[1], allowed=pool, exclude=known)
    rows, scores = found.rows[:, window[0] :], found.scores[:, window[0] :]
    usable = (rows >= 0) & (rows != positive[:, None])
    if margin is not None:
        of_positive = np.einsum("nd,nd->n", queries, items[positive])
        usable &= scores <= (of_positive - margin)[:, None]
    keys = np.where(usable, rng.random(rows.shape), np.inf)
    drawn = np.argsort(keys, axis=1, kind="stable")[:, :count]
    return np.where(np.take_along_axis(usable, drawn, 1), np.take_along_axis(rows, drawn, 1), -1)


def veto_negatives(negatives: Rows, scores: Scores, positive: Scores) -> Rows:
    """`negatives` int64 [n, count], with -1 for those that a teacher scores above their positive.

    `scores` float [n, count] are the teacher's for the negatives, `positive` float [n] for the positives.
    """
    return np.where(scores > positive[:, None], -1, negatives)


class HardNegatives:
    """The hard negatives of each pair as of the last mining round: `rows` int64 [n_pairs, hard_negatives], -1 padded.

    `mining_rounds` rounds are spread evenly over `steps` training steps. Each searches the pairs' own items and a new
    random pool of the catalogue.
    """

    def __init__(
        self, pairs: TextPairs, item_texts: Sequence[str], config: TextConfig, *, steps: int, seed: int
    ) -> None:
        self.rows: Rows = np.full((len(pairs), config.hard_negatives), -1, np.int64)
        self.round = -1  # the round that `rows` are from; -1: none yet
        self._pairs, self._item_texts, self._config, self._seed = pairs, item_texts, config, seed
        self._steps_per_round = -(-steps // config.mining_rounds)

    def refresh(self, model: SentenceTransformer, step: int) -> None:
        """Mines again with the current `model` where `step` begins a new round."""
        now = step // self._steps_per_round
        if not self._config.hard_negatives or now == self.round:
            return
        self.rows, self.round = self._mine(model, np.random.default_rng([self._seed, now])), now

    def _mine(self, model: SentenceTransformer, rng: np.random.Generator) -> Rows:
        pairs, config, n_items = self._pairs, self._config, len(self._item_texts)
        pool = np.zeros(n_items, bool)
        pool[rng.permutation(n_items)[: config.negative_pool]] = True
        pool[pairs.item] = True
        read = [self._item_texts[row] for row in np.flatnonzero(pool).tolist()]
        texts, text_of = np.unique(np.array(pairs.text), return_inverse=True)
        meter = ProgressMeter(len(read) + len(texts), "mining hard negatives", unit="texts")
        encoded = _encoded(model.encode_document, read, meter)
        queries = _encoded(model.encode_query, texts.tolist(), meter)[text_of]
        meter.close()
        items = np.zeros((n_items, encoded.shape[1]), np.float32)  # pages that are never written take no memory
        items[pool] = encoded
        return mine_negatives(
            queries, items, pairs.item, pairs.known.select(pairs.owner), count=config.hard_negatives,
            window=config.negative_window, margin=config.negative_margin, rng=rng, pool=pool,
        )  # fmt: skip


def _encoded(encode: Callable[..., Vectors], texts: Sequence[str], meter: ProgressMeter) -> Vectors:
    """Unit vectors of texts, float32 [n, dim]; `encode` is the model's `encode_query` or `encode_document`."""
    found = []
    for start in range(0, len(texts), ENCODED_AT_ONCE):
        part = texts[start : start + ENCODED_AT_ONCE]
        found.append(encode(part, normalize_embeddings=True))
        meter.advance(len(part))
    return np.concatenate(found)
