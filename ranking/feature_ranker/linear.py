"""The linear kind: a weighted sum of standardised features and the score of the order before."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from ranking.feature_ranker.files import not_of_this_version, read_about, write_about
from ranking.feature_ranker.inputs import Inputs
from ranking.feature_ranker.protocol import Features, Scores


@dataclass(frozen=True)
class LinearRanker:
    """`base_weight` * base + the inputs' weights, of any sign, times the inputs."""

    names: tuple[str, ...]
    inputs: Inputs
    weights: NDArray[np.float32]  # [inputs.width]
    base_weight: float

    kind = "linear"

    def score(self, features: Features, base: Scores) -> Scores:
        """See `FeatureRanker.score`."""
        return np.asarray(self.inputs(features) @ self.weights + np.float32(self.base_weight) * base, np.float32)

    def contributions(self, features: Features, base: Scores) -> NDArray[np.float32]:
        """See `FeatureRanker.contributions`; a feature that has the mean of the training pairs adds nothing."""
        shares = self.inputs.by_feature(self.inputs(features) * self.weights)
        return np.column_stack([shares, np.float32(self.base_weight) * base]).astype(np.float32, copy=False)

    def save(self, folder: Path, name: str) -> None:
        """Writes `name`.json."""
        about = {"names": self.names, "inputs": self.inputs.as_json(), "weights": self.weights.tolist()}
        write_about(folder, name, self.kind, {**about, "base_weight": self.base_weight})

    @classmethod
    def load(cls, folder: Path, name: str) -> Self:
        """See `FeatureRanker.load`."""
        about = read_about(folder, name)
        try:
            inputs = Inputs.from_json(about["inputs"])
            weights = np.asarray(about["weights"], np.float32)
            if weights.shape != (inputs.width,) or len(about["names"]) != inputs.n_features:
                raise ValueError("names, inputs and weights do not fit one another")
            return cls(tuple(about["names"]), inputs, weights, float(about["base_weight"]))
        except (KeyError, TypeError, ValueError) as error:
            raise not_of_this_version(folder, name, error) from error
