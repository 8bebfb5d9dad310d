"""The text part of the towers: what it learns from, for how long, and how far from the pretrained encoder it moves."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from sentence_transformers import SentenceTransformer

from retrieval.data.targets import rated
from retrieval.encoders.text_encoder import open_sentence_transformer
from retrieval.encoders.vocabulary import trim_vocabulary
from retrieval.errors import BadConfig
from retrieval.fingerprint import fingerprint
from retrieval.settings import RetrievalConfig, TextConfig
from retrieval.text.rendering import rendering_fingerprint
from retrieval.topk import CSR
from retrieval.training.checkpoint import claim
from retrieval.training.interpolation import (
    MIN_QUERIES,
    SHARES,
    SearchTrial,
    cautious_share,
    interpolated,
    trial_scores,
)
from retrieval.training.text_batches import Teacher
from retrieval.training.text_pair_sources import (
    GOOD_SHARE,
    TowerData,
    event_query_pairs,
    history_pairs,
    judged_pairs,
    rated_pairs,
)
from retrieval.training.text_pairs import TextPairs
from retrieval.training.text_tower import hashed_share, train_text
from retrieval.training.windows import Windows

QUERY_EXAMPLES = 16_000  # query pairs that the text encoder reads at most
QUERY_ROUNDS = 2.0  # how often each of them at most
QUERY_READS = 10.0  # and how often the pairs of one query, all together, at most
HISTORY_EXAMPLES = 4_000  # pairs from histories that are added where there are queries, each read once
HELD_OUT = 0.04  # share of the training queries held out, for early stopping and for the choice of weights,
HELD_OUT_QUERIES = 100  # and how many at least
FEW_QUERIES = 600  # below which none are held out: weights are chosen by cross-validation
FOLDS = 3  # of the cross-validation
NO_PAIRS = TextPairs((), np.empty(0, np.int64), np.empty(0, np.int64), CSR.from_lists([]))


@dataclass(frozen=True)
class TextData:
    """Graded pairs of queries, judged ones and those of events, and pairs of histories.

    `held` are further pairs of histories, of other shoppers, where there are no queries to hold out. `examples` is how
    many pairs are to be read in all. It is 0 without queries: on histories alone, fine-tuning the text encoder did not
    improve recommendations.
    """

    queries: TextPairs
    histories: TextPairs
    held: TextPairs
    examples: int

    @classmethod
    def of(cls, source: TowerData, windows: Windows | None, scale: float, config: RetrievalConfig) -> TextData:
        """The training data; `scale` multiplies the number of examples. Loss mse reads judgements and rated
        events alone, because others have no grades; raises BadConfig where there are none."""
        graded, rng = config.text.loss == "mse", np.random.default_rng(config.seed)
        events = source.data.events
        by_ratings = graded and events is not None and bool(rated(events).any())
        if graded and source.judgements is None and not by_ratings:
            raise BadConfig(
                "retrieval.text.loss mse needs graded judgements or events with a rating, and the data set has none; "
                "take softmax or bce"
            )
        parts, histories = [], NO_PAIRS
        if source.judgements is not None and source.data.queries is not None:
            parts.append(judged_pairs(source.data, source.judgements.folds["train"], graded=True))
        if by_ratings:
            parts.append(rated_pairs(source.data, source.train))
        if windows is not None and not graded:
            parts.append(event_query_pairs(source.data, source.train))
            titles = source.data.items["title"].to_pylist()
            histories = history_pairs(windows, titles, int(HISTORY_EXAMPLES * scale), rng)
        queries = TextPairs.join(parts).grouped_by_text() if parts else NO_PAIRS
        if len(queries):
            found = cls(queries, histories, NO_PAIRS, 0)
            return replace(found, examples=found._budget(scale, graded))
        out = hashed_share([source.data.user_ids[user] for user in histories.owner], HELD_OUT)
        return cls(queries, histories.take(np.flatnonzero(~out)), histories.take(np.flatnonzero(out)), 0)

    def _budget(self, scale: float, graded: bool) -> int:
        n_pairs = len(self.queries) if graded else int(self.answers.sum())
        reads = min(QUERY_EXAMPLES, QUERY_ROUNDS * n_pairs, QUERY_READS * self.n_queries)
        return int(reads * scale) + len(self.histories) if n_pairs else 0

    @property
    def answers(self) -> NDArray[np.bool_]:
        """Which pairs of queries are of items that answer them, bool [n]; others are judged worse."""
        return self.queries.grades >= GOOD_SHARE

    @cached_property
    def n_queries(self) -> int:
        """Queries with a pair."""
        return len(np.unique(self.queries.owner))

    def digest(self) -> str:
        """A fingerprint of the contents."""
        return fingerprint(self.queries.digest(), self.histories.digest(), self.examples)


@dataclass(frozen=True)
class TextTraining:
    """One training of the text part; `work` is for its checkpoints."""

    data: TextData
    items: Sequence[str]
    config: RetrievalConfig
    work: Path
    device: str
    say: Callable[[str], None]
    teacher: Teacher | None

    def run(self, folder: Path) -> dict[str, float]:
        """Trains the text part, or takes over what an interrupted run had finished, into `folder`; returns figures."""
        run = fingerprint(
            self._text.model_dump(), self.config.seed, self._examples, self.teacher is not None, list(self.items),
            rendering_fingerprint(), self.data.digest(), SHARES, FOLDS,
        )  # fmt: skip
        done = self.work / "model"
        if not (claim(self.work, run) and done.exists()):
            model, figures = self._fitted()
            beside = done.with_suffix(".part")
            shutil.rmtree(beside, ignore_errors=True)
            model.save(str(beside), create_model_card=False)
            (self.work / "figures.json").write_text(json.dumps(figures), "utf-8")
            beside.rename(done)
            for folder_of_checkpoint in self.work.glob("checkpoint-*"):
                shutil.rmtree(folder_of_checkpoint)
        shutil.copytree(done, folder, dirs_exist_ok=True)
        figures = json.loads((self.work / "figures.json").read_text("utf-8"))
        return {str(name): float(value) for name, value in figures.items()}

    @property
    def _text(self) -> TextConfig:
        return self.config.text

    @property
    def _examples(self) -> int:
        return self.data.examples if self._text.examples is None else self._text.examples

    def _fitted(self) -> tuple[SentenceTransformer, dict[str, float]]:
        model = self._pretrained()
        queries, held = self.data.queries, self._held_out()
        train = self._training_pairs(~held)
        if not len(train) or self._examples < self._text.batch:
            return model, {}
        trial_pairs = queries.take(np.flatnonzero(held)) if len(queries) else self.data.held
        chooses, few = self._text.tuned_share is None, len(queries) > 0 and not held.any()
        if chooses and (n := len(np.unique((queries if few else trial_pairs).owner))) < MIN_QUERIES:
            self.say(f"text encoder: left as pretrained, for {n} queries cannot show that training helps")
            return model, {"text_tuned_share": 0.0}
        stopping = trial_pairs.take(np.flatnonzero(trial_pairs.grades >= GOOD_SHARE))
        scores = self._cross_validated() if chooses and few else None
        if scores is not None and not cautious_share(scores):
            return model, self._chosen(scores)
        self.say(f"text encoder: {len(train):,} pairs, budget {self._examples:,} examples")
        pretrained = {name: value.detach().clone() for name, value in model.state_dict().items()}
        best = self._train(model, train, stopping, self._examples, self.work)
        figures = {} if best is None else {"text_recall@10": best}
        if chooses:
            if scores is None:
                trial = SearchTrial(trial_pairs, self.items, np.random.default_rng(self.config.seed))
                scores = trial_scores(model, pretrained, trial)
            figures |= self._chosen(scores)
        share = figures["text_tuned_share"] if self._text.tuned_share is None else self._text.tuned_share
        model.load_state_dict(interpolated(pretrained, model.state_dict(), share))
        return model, figures

    def _held_out(self) -> NDArray[np.bool_]:
        """Which pairs of queries training leaves out, bool [n]: whole queries, none where queries are few."""
        if self.data.n_queries < FEW_QUERIES:
            return np.zeros(len(self.data.queries), bool)
        return hashed_share(self.data.queries.text, max(HELD_OUT, HELD_OUT_QUERIES / self.data.n_queries))

    def _training_pairs(self, kept: NDArray[np.bool_]) -> TextPairs:
        """The pairs of queries that are `kept`, as the loss takes them, and those of histories."""
        taken = kept if self._text.loss == "mse" else kept & self.data.answers
        return TextPairs.join([self.data.queries.take(np.flatnonzero(taken)), self.data.histories])

    def _cross_validated(self) -> NDArray[np.float64]:
        """The figures of every query by an encoder that was trained without it, float64 [n_shares, n_queries]."""
        queries, scores = self.data.queries, []
        fold = fold_of(queries.text, FOLDS)
        self.say(
            f"text encoder: {self.data.n_queries:,} queries are few, so {FOLDS} trainings each leave some out first"
        )
        for number in range(FOLDS):
            out, path = fold == number, self.work / f"fold-{number}.npy"
            if not out.any() or out.all():
                continue
            if not path.exists():
                work = self.work / f"fold-{number}"
                found, beside = self._scores_without(out, work), path.with_suffix(".part.npy")
                np.save(beside, found)
                beside.replace(path)
                shutil.rmtree(work, ignore_errors=True)
            scores.append(np.load(path))
        return np.concatenate(scores, axis=1) if scores else np.empty((len(SHARES), 0))

    def _scores_without(self, out: NDArray[np.bool_], work: Path) -> NDArray[np.float64]:
        """The figures of the queries whose pairs are `out`, bool [n], by an encoder trained on the others."""
        rng, model = np.random.default_rng(self.config.seed), self._pretrained()
        train, whole = self._training_pairs(~out), self._training_pairs(np.ones(len(out), bool))
        trial = SearchTrial(self.data.queries.take(np.flatnonzero(out)), self.items, rng)
        pretrained = {name: value.detach().clone() for name, value in model.state_dict().items()}
        if len(train):
            self._train(model, train, NO_PAIRS, round(self._examples * len(train) / len(whole)), work)
        return trial_scores(model, pretrained, trial)

    def _chosen(self, scores: NDArray[np.float64]) -> dict[str, float]:
        """The share of the tuned weights that the figures speak for, with their means; a line says it in words."""
        share, known = cautious_share(scores), scores[:, ~np.isnan(scores).any(axis=0)]
        n = known.shape[1]
        means = dict(zip(SHARES, known.mean(axis=1).tolist() if n else [0.0] * len(SHARES), strict=True))
        how = "by cross-validation" if self.data.n_queries < FEW_QUERIES else "held out"
        self.say(
            f"text encoder: {in_words(share)}; nDCG@10 {means[share]:.4f}, pretrained {means[0.0]:.4f}, tuned "
            f"{means[1.0]:.4f}, over {n:,} queries {how}"
        )
        return {
            "text_tuned_share": share,
            "text_queries": float(n),
            **{f"text_ndcg@10, share {one:g}": mean for one, mean in means.items()},
        }

    def _train(
        self, model: SentenceTransformer, train: TextPairs, stopping: TextPairs, examples: int, work: Path
    ) -> float | None:
        return train_text(
            model, train, stopping, self.items, config=self._text, examples=examples, work=work,
            seed=self.config.seed, device=self.device, teacher=self.teacher,
        )  # fmt: skip

    def _pretrained(self) -> SentenceTransformer:
        model = open_sentence_transformer(self._text.model, device=self.device)
        if self._text.trim_vocabulary:
            trim_vocabulary(model, [*self.items, *self.data.queries.text, *self.data.histories.text])
        return model


def in_words(share: float) -> str:
    """How far the weights are from the pretrained ones.

    >>> in_words(0.0), in_words(0.25), in_words(1.0)
    ('weights as pretrained', 'weights 25 % of the way from pretrained to tuned', 'weights as tuned')
    """
    ends = {0.0: "weights as pretrained", 1.0: "weights as tuned"}
    return ends.get(share, f"weights {share:.0%} of the way from pretrained to tuned".replace("%", " %"))


def fold_of(texts: Sequence[str], folds: int) -> NDArray[np.int64]:
    """The fold of each text, int64 [n] from 0 to `folds` - 1, which depends on the text alone."""
    fold = np.zeros(len(texts), np.int64)
    for number in range(1, folds):
        fold += ~hashed_share(texts, number / folds)
    return fold
