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
    """`count` negatives of each query, int64 [n_queries, count] rows of `items`; -1 pads where there are fewer.

    They are drawn evenly from the ranks `window[0]` up to `window[1]` among what is not known to be good: `known` holds
    each query's list of such rows, `positive` int64 [n_queries] the one that the query is trained to find. A candidate
    that scores above its positive less `margin` is suspected to be good as well and left out (Moreira et al. 2024);
    with no margin, none is. `pool` bool [n_items] names the rows that may be drawn, and may leave out positives.
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
    """`negatives` [n, count] without those that a better judge scores above their positive, -1 in their place.

    `scores` float [n, count] of the negatives, `positive` float [n].
    """
    return np.where(scores > positive[:, None], -1, negatives)


class HardNegatives:
    """The hard negatives of each pair, `rows` int64 [n_pairs, hard_negatives], as of the last round; -1 pads them.

    There are `mining_rounds` over `steps` steps. A round reads the pairs' own items and a random pool of the catalogue.
    """

    def __init__(
        self, pairs: TextPairs, item_texts: Sequence[str], config: TextConfig, *, steps: int, seed: int
    ) -> None:
        self.rows: Rows = np.full((len(pairs), config.hard_negatives), -1, np.int64)
        self.round = -1  # of `rows`; none yet
        self._pairs, self._item_texts, self._config, self._seed = pairs, item_texts, config, seed
        self._steps_of_a_round = -(-steps // config.mining_rounds)

    def refresh(self, model: SentenceTransformer, step: int) -> None:
        """Mines with `model` as it is, if `step` is of a round that was not mined yet."""
        now = step // self._steps_of_a_round
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
    """Unit vectors of texts by one of the model's own ways to read them, float32 [n, dim]."""
    found = []
    for start in range(0, len(texts), ENCODED_AT_ONCE):
        part = texts[start : start + ENCODED_AT_ONCE]
        found.append(encode(part, normalize_embeddings=True))
        meter.advance(len(part))
    return np.concatenate(found)
