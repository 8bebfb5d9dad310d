"""Features as the linear kind and the MLP read them: standardised, clipped, with a flag for what is missing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ranking.feature_ranker.protocol import Features

CLIP = 5.0  # standard deviations
LEAST_SPREAD = 1e-6  # standard deviation as a share of the mean, below which a column counts as constant
LARGEST = np.float32(1e30)  # stands for infinity, which less the mean and times 0 is not a number


@dataclass(frozen=True)
class Inputs:
    """Maps features [m, f] to inputs float32 [m, f + n_flags].

    A feature becomes (value - mean) * scale, clipped at CLIP; a missing value becomes 0, the mean. `flagged` are the
    columns for which an input of its own says 1 where the value is missing: those that had both in training.
    """

    mean: NDArray[np.float32]  # [f]
    scale: NDArray[np.float32]  # [f]  1 / standard deviation; 0 for a column that is constant or wholly missing
    flagged: NDArray[np.int64]  # [n_flags]  columns, ascending

    @classmethod
    def of(cls, features: Features) -> Inputs:
        """From the mean and the standard deviation of the finite values of each column."""
        mean, scale = np.zeros((2, features.shape[1]), np.float32)
        for column, values in enumerate(features.T):
            finite = values[np.isfinite(values)].astype(np.float64)
            if len(finite):
                middle, spread = finite.mean(), finite.std()
                mean[column] = middle
                scale[column] = 1 / spread if spread > LEAST_SPREAD * abs(middle) else 0.0
        missing = np.isnan(features)
        return cls(mean, scale, np.flatnonzero(missing.any(axis=0) & ~missing.all(axis=0)))

    @property
    def n_features(self) -> int:
        """Columns that are read."""
        return len(self.mean)

    @property
    def width(self) -> int:
        """Columns that come out: features, then flags."""
        return len(self.mean) + len(self.flagged)

    def __call__(self, features: Features) -> NDArray[np.float32]:
        """Inputs float32 [m, width] of `features` float32 [m, f]."""
        inputs = np.empty((len(features), self.width), np.float32)
        values, missing = inputs[:, : self.n_features], np.isnan(features)
        np.clip(features, -LARGEST, LARGEST, out=values)
        values -= self.mean
        with np.errstate(over="ignore"):  # what overflows is clipped
            values *= self.scale
        np.clip(values, -CLIP, CLIP, out=values)
        values[missing] = 0.0
        inputs[:, self.n_features :] = missing[:, self.flagged]
        return inputs

    def by_feature(self, shares: NDArray[np.float32]) -> NDArray[np.float32]:
        """Shares of inputs [m, width] as shares of features [m, f]: a flag's goes to its feature."""
        summed = shares[:, : self.n_features].copy()
        summed[:, self.flagged] += shares[:, self.n_features :]
        return summed

    def names(self, features: Sequence[str]) -> tuple[str, ...]:
        """The name of each input, where `features` are those of the features."""
        return (*features, *(f"{features[column]} is missing" for column in self.flagged))

    def as_json(self) -> dict[str, Any]:
        """As JSON takes it."""
        return {name: getattr(self, name).tolist() for name in ("mean", "scale", "flagged")}

    @classmethod
    def from_json(cls, recorded: Mapping[str, Any]) -> Inputs:
        """From `as_json`. Raises KeyError, TypeError or ValueError for anything else."""
        inputs = cls(
            np.asarray(recorded["mean"], np.float32),
            np.asarray(recorded["scale"], np.float32),
            np.asarray(recorded["flagged"], np.int64),
        )
        if inputs.scale.shape != inputs.mean.shape or not np.isin(inputs.flagged, np.arange(len(inputs.mean))).all():
            raise ValueError("mean, scale and flagged do not fit one another")
        return inputs
