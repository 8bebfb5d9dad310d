"""A feature ranker that reads whatever features it is told to, and gives the order before."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from ranking.feature_ranker.protocol import Features, Scores
from ranking.features.registry import features_of
from serving.answering.release_state import ReleaseState
from serving.answering.second_stage import SecondStage
from serving.evaluation.batch_requests import EVERY_GATE


@dataclass(frozen=True)
class PlainRanker:
    """See FeatureRanker; every feature adds nothing."""

    names: tuple[str, ...]
    kind: str = "plain"

    def score(self, features: Features, base: Scores) -> Scores:
        return base

    def contributions(self, features: Features, base: Scores) -> NDArray[np.float32]:
        return np.hstack([np.zeros_like(features), base[:, None]])

    def save(self, folder: Path, name: str) -> None:
        (folder / f"{name}.txt").write_text("\n".join(self.names), "utf-8")

    @classmethod
    def load(cls, folder: Path, name: str) -> Self:
        return cls(tuple((folder / f"{name}.txt").read_text("utf-8").split("\n")))


def reading_every_feature(state: ReleaseState, without: Sequence[str] = ()) -> ReleaseState:
    """The release with a second stage that reads all features of its shop and changes no order."""
    named = {search: tuple(features_of(state.facts, search=search)) for search in (False, True)}
    rankers = {
        "recommend": PlainRanker(tuple(name for name in named[False] if name not in without)),
        "search": PlainRanker(tuple(name for name in named[True] if name not in without)),
    }
    return replace(state, scores=EVERY_GATE, second_stage=SecondStage(rankers))  # type: ignore[arg-type]
