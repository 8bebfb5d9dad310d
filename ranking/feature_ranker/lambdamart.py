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
    """`base_weight` * base + the mean over models of the sum of their trees. Needs the extra `lambdamart`."""

    names: tuple[str, ...]
    models: tuple[str, ...]  # LightGBM's model texts, one for each seed; none: the base alone
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
        """Writes `name`.json and, for each model, `name`.trees-0.txt and so on, which LightGBM opens."""
        about = {"names": self.names, "base_weight": self.base_weight, "sha256": [*map(_sha256, self.models)]}
        write_about(folder, name, self.kind, about)
        for number, text in enumerate(self.models):
            _path(folder, name, number).write_text(text, "utf-8")

    @classmethod
    def load(cls, folder: Path, name: str) -> Self:
        """See `FeatureRanker.load`. Raises MissingDependency where LightGBM is not installed."""
        about = read_about(folder, name)
        try:
            texts = [_text(_path(folder, name, number), str(sum_)) for number, sum_ in enumerate(about["sha256"])]
            ranker = cls(tuple(about["names"]), tuple(texts), float(about["base_weight"]))
        except (KeyError, TypeError, ValueError) as error:
            raise not_of_this_version(folder, name, error) from error
        require_lightgbm()
        ranker.open()
        return ranker

    def open(self) -> None:
        """Parses the trees, so that no request waits for that and for the import of LightGBM, a second or two."""
        if self.models:
            _ = self.boosters

    @cached_property
    def boosters(self) -> tuple[Booster, ...]:
        """The models as LightGBM holds them."""
        from lightgbm import Booster

        return tuple(Booster(model_str=text) for text in self.models)

    def _predict(self, features: Features, *, pred_contrib: bool = False) -> NDArray[np.float64]:
        if not self.models or not len(features):
            return np.zeros((len(features), len(self.names) + 1) if pred_contrib else len(features))
        finite = np.clip(features, -LARGEST, LARGEST)
        found = [
            booster.predict(finite, raw_score=True, pred_contrib=pred_contrib, num_threads=self.threads)
            for booster in self.boosters
        ]
        return np.asarray(np.mean(found, axis=0), np.float64)


def _path(folder: Path, name: str, number: int) -> Path:
    return folder / f"{name}.trees-{number}.txt"


def _text(path: Path, recorded: str) -> str:
    """A model's text. Raises BadBundle where it is missing, CorruptBundle where its checksum is another: LightGBM ends
    the process where a tree's text is cut off."""
    if not path.exists():
        raise BadBundle(f"{path} is missing; {REMEDY}")
    text = path.read_text("utf-8", "replace")
    if _sha256(text) != recorded:
        raise CorruptBundle(f"{path} is changed; {REMEDY}")
    return text


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def require_lightgbm() -> None:
    """Raises MissingDependency where LightGBM is not installed."""
    require("lightgbm", "the feature ranker lambdamart")
