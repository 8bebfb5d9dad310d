"""The models of a release behind batches that concurrent callers share: the text encoder and the cross-encoders."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import TYPE_CHECKING

import numpy as np

from ranking.models.cross_encoder import Activation, CrossEncoderScorer, shortlist_logits
from ranking.models.pair_tokens import PairTokenizer, TokenisedPairs, TokensByRow
from ranking.models.placement import Placement
from retrieval.topk import Hits, Scores, Vectors
from serving.answering.in_time.otherwise import QueueFull
from serving.answering.in_time.shared_batches import Callers, SharedBatches

if TYPE_CHECKING:
    from serving.answering.release_state import ReleaseState
    from serving.answering.rerank_steps import Step

ROUNDS = 4  # batches of each of a runner's streams that callers share at once
LETTERS = 4  # of a token, about


@dataclass(frozen=True)
class SharedScorer:
    """A cross-encoder whose batches concurrent callers share: a ShortlistScorer with the logits of `scorer`."""

    scorer: CrossEncoderScorer
    batches: SharedBatches[TokenisedPairs, Scores]

    @classmethod
    def of(cls, scorer: CrossEncoderScorer, callers: Callers) -> SharedScorer:
        """Shared among the callers of an engine."""

        def run(parts: Sequence[TokenisedPairs]) -> Sequence[Scores]:
            scores = scorer.score_tokenised(TokenisedPairs.join(parts))
            return np.split(scores, list(accumulate(len(part.user) for part in parts))[:-1])

        runner = scorer.runner
        return cls(scorer, SharedBatches(run, ROUNDS * runner.streams * runner.budget_tokens, callers))

    @property
    def fingerprint(self) -> str:
        """See ShortlistScorer."""
        return self.scorer.fingerprint

    @property
    def placement(self) -> Placement:
        """See ShortlistScorer."""
        return self.scorer.placement

    @property
    def tokenizer(self) -> PairTokenizer:
        """See ShortlistScorer."""
        return self.scorer.tokenizer

    @property
    def activation(self) -> Activation:
        """See ShortlistScorer."""
        return self.scorer.activation

    def score_shortlists(
        self,
        user_texts: Sequence[str],
        item_tokens: TokensByRow,
        hits: Hits,
        depth: int,
        *,
        done: Callable[[int], None] | None = None,
    ) -> Scores:
        """See ShortlistScorer."""
        return shortlist_logits(self, user_texts, item_tokens, hits, depth, done=done)

    def score_tokenised(self, pairs: TokenisedPairs, *, done: Callable[[int], None] | None = None) -> Scores:
        """See ShortlistScorer. Raises QueueFull where too many callers wait."""
        if not len(pairs.user):
            return np.empty(0, np.float32)
        scores = self.batches(pairs, int(self.tokenizer.lengths(pairs).sum()))
        if done is not None:
            done(len(scores))
        return scores


def sharing(state: ReleaseState, callers: Callers) -> ReleaseState:
    """The same release with its text encoder and cross-encoders shared among the callers of an engine; what is shared
    already stays."""
    # later releases share these two, and keep nothing else of this one
    queries, tower = state.query_vectors, state.user_tower
    runner = tower.encoder.runner

    def run(parts: Sequence[Sequence[str]]) -> Sequence[Vectors]:
        vectors = tower.queries([text for part in parts for text in part])
        return np.split(vectors, list(accumulate(map(len, parts)))[:-1])

    batches = SharedBatches(run, ROUNDS * runner.streams * runner.budget_tokens, callers)

    def embed(texts: Sequence[str]) -> Vectors:
        try:
            return batches(texts, sum(2 + len(text) // LETTERS for text in texts))
        except QueueFull:  # what is searched for has to be read
            return tower.queries(texts)

    return replace(
        state,
        query_vectors=queries if queries.embed is not None else replace(queries, embed=embed),
        steps=tuple(_shared(step, callers) for step in state.steps),
    )


def _shared(step: Step, callers: Callers) -> Step:
    scorer = step.scorer
    return replace(step, scorer=SharedScorer.of(scorer, callers)) if isinstance(scorer, CrossEncoderScorer) else step
