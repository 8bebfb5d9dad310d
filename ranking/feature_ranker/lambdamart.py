"""The LambdaMART kind: LightGBM's trees over raw features, added to the score of the order before."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Self

import numpy as np
from numpy.typing import NDArray

from ranking.feature_ranker.files import REMEDY, not_of_this_version, read_about, write_about
from ranking.feature_ranker.protocol import Features, Scores
from retrieval.errors import BadBundle, CorruptBundle
from retrieval.extras import require

if TYPE_CHECKING:
    from lightgbm import Booster

LARGEST = np.float32(1e30)  # stands for infinity


@dataclass(frozen=True)
class LambdaMARTRanker:
    """`base_weight` * base + the sum of the trees' outputs. Needs the extra `lambdamart`."""

    names: tuple[str, ...]
    trees: str  # LightGBM's model text; empty: none
    base_weight: float
    threads: int = field(default=1, compare=False)

    kind = "lambdamart"

    def score(self, features: Features, base: Scores) -> Scores:
        """See `FeatureRanker.score`."""
        return np.asarray(self._predict(features) + self.base_weight * base, np.float32)

    def contributions(self, features: Features, base: Scores) -> NDArray[np.float32]:
        """See `FeatureRanker.contributions`: SHAP values of the trees (Lundberg et al. 2018)."""
        shares = np.array(self._predict(features, pred_contrib=True), np.float32)
        shares[:, -1] += np.float32(self.base_weight) * base
        return shares

    def save(self, folder: Path, name: str) -> None:
        """Writes `name`.json and `name`.trees.txt, which LightGBM opens."""
        about = {"names": self.names, "base_weight": self.base_weight, "sha256": _sha256(self.trees)}
        write_about(folder, name, self.kind, about)
        (folder / f"{name}.trees.txt").write_text(self.trees, "utf-8")

    @classmethod
    def load(cls, folder: Path, name: str) -> Self:
        """See `FeatureRanker.load`. Raises MissingDependency where LightGBM is not installed."""
        about, path = read_about(folder, name), folder / f"{name}.trees.txt"
        if not path.exists():
            raise BadBundle(f"{path} is missing; {REMEDY}")
        try:
            ranker = cls(tuple(about["names"]), path.read_text("utf-8", "replace"), float(about["base_weight"]))
            if about["sha256"] != _sha256(ranker.trees):  # LightGBM ends the process where a tree's text is cut off
                raise CorruptBundle(f"{path} is changed; {REMEDY}")
        except (KeyError, TypeError, ValueError) as error:
            raise not_of_this_version(folder, name, error) from error
        require_lightgbm()
        ranker.open()
        return ranker

    def open(self) -> None:
        """Parses the trees, so that no request waits for that and for the import of LightGBM, a second or two."""
        if self.trees:
            _ = self.booster

    @cached_property
    def booster(self) -> Booster:
        """The trees as LightGBM holds them."""
        from lightgbm import Booster

        return Booster(model_str=self.trees)

    def _predict(self, features: Features, *, pred_contrib: bool = False) -> NDArray[np.float64]:
        if not self.trees or not len(features):
            return np.zeros((len(features), len(self.names) + 1) if pred_contrib else len(features))
        finite = np.clip(features, -LARGEST, LARGEST)
        found = self.booster.predict(finite, raw_score=True, pred_contrib=pred_contrib, num_threads=self.threads)
        return np.asarray(found)


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def require_lightgbm() -> None:
    """Raises MissingDependency where LightGBM is not installed."""
    require("lightgbm", "the feature ranker lambdamart")
