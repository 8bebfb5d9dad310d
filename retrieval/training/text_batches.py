"""Batches of the text encoder's training: texts looked up, augmented and tokenised, with the labels the loss needs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from sentence_transformers import SentenceTransformer

from retrieval.settings import TextConfig
from retrieval.text.typos import field_loss, misspelt_query, word_drop
from retrieval.topk import Rows
from retrieval.training.hard_negatives import HardNegatives, veto_negatives
from retrieval.training.text_pairs import TextPairs

Teacher: TypeAlias = Callable[[Sequence[str], Sequence[str]], NDArray[np.float32]]
Batch: TypeAlias = dict[str, Any]


@dataclass(frozen=True)
class TextBatches:
    """Turns positions of pairs into a batch: features of both sides, under the model's own prompts, and labels.

    Texts are augmented (typos, dropped words and fields) with the probabilities in `config`, differently at each step.
    `teacher` scores (query text, item text) pairs, float32 [n]: a hard negative that it scores above its positive is
    left out as a likely false negative.
    """

    model: SentenceTransformer
    pairs: TextPairs
    item_texts: Sequence[str]
    config: TextConfig
    seed: int
    mined: HardNegatives
    teacher: Teacher | None = None

    def __call__(self, index: NDArray[np.int64], step: int) -> Batch:
        """The batch of the pairs at `index`, int64 [b].

        Its labels: `owner`, `item` (int64 [b]) and `grade` (float32 [b]); `negative` (int64 [m]), the distinct rows of
        the batch's hard negatives; `mined` (int64 [b, h]), where each pair's own stand in `negative`, -1 padded; and,
        with a teacher, `teacher` (float32 [b, 1 + h]), its scores of the positive and the hard negatives.
        """
        rng, pairs = np.random.default_rng([self.seed, step, *index]), self.pairs
        queries, rows = [pairs.text[i] for i in index], pairs.item[index]
        own, label = self.mined.rows[index], {}
        if self.teacher is not None and own.shape[1]:
            scores = self._scores(self.teacher, queries, rows, own)
            own, label["teacher"] = veto_negatives(own, scores[:, 1:], scores[:, 0]), torch.from_numpy(scores)
        negative = np.unique(own[own >= 0])
        places = np.where(own >= 0, np.searchsorted(negative, own), -1)
        arrays = (pairs.owner[index], rows, pairs.grades[index], negative, places)
        named = zip(("owner", "item", "grade", "negative", "mined"), arrays, strict=True)
        batch = self._features("query", "query", [self._augmented_query(text, rng) for text in queries])
        batch |= self._features("item", "document", [self._augmented_item(row, rng) for row in rows.tolist()])
        if len(negative):
            texts = [self._augmented_item(row, rng) for row in negative.tolist()]
            batch |= self._features("negative", "document", texts)
        return batch | {"label": label | {name: torch.from_numpy(array) for name, array in named}}

    def _scores(self, teacher: Teacher, queries: list[str], rows: Rows, negatives: Rows) -> NDArray[np.float32]:
        """The teacher's scores of each pair's item and hard negatives, float32 [b, 1 + h]; -inf for padding."""
        read = np.concatenate([rows[:, None], negatives], axis=1)
        line, column = np.nonzero(read >= 0)
        scores = np.full(read.shape, -np.inf, np.float32)
        items = [self.item_texts[row] for row in read[line, column]]
        scores[line, column] = teacher([queries[at] for at in line], items)
        return scores

    def _augmented_query(self, text: str, rng: np.random.Generator) -> str:
        if rng.random() < self.config.word_drop:
            text = word_drop(text, rng)
        return misspelt_query(text, rng) if rng.random() < self.config.typos else text

    def _augmented_item(self, row: int, rng: np.random.Generator) -> str:
        return field_loss(self.item_texts[row], self.config.field_loss, rng)

    def _features(self, name: str, side: str, texts: list[str]) -> Batch:
        features = self.model.preprocess(texts, prompt=self.model.prompts.get(side))
        return {f"{name}_{key}": value for key, value in features.items()}
