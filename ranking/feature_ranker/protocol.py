"""What every kind of feature ranker can do."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol, Self, TypeAlias

import numpy as np
from numpy.typing import NDArray

Features: TypeAlias = NDArray[np.float32]  # [n_candidates, n_features]  nan: missing
Scores: TypeAlias = NDArray[np.float32]  # [n_candidates]


class FeatureRanker(Protocol):
    """Scores candidates by their features and by the score of the order before; the best candidate scores highest.

    Scores compare within one request alone.
    """

    @property
    def kind(self) -> str:
        """The name under which the kind is registered."""
        ...

    @property
    def names(self) -> tuple[str, ...]:
        """The features that are read, in the order of the columns."""
        ...

    def score(self, features: Features, base: Scores) -> Scores:
        """Scores float32 [m] of candidates.

        `features` is float32 [m, f] with columns by `names`, nan where missing; `base` is float32 [m], the score of the
        order before.
        """
        ...

    def contributions(self, features: Features, base: Scores) -> NDArray[np.float32]:
        """What each feature adds to each score, float32 [m, f + 1]; a row sums to the score of its candidate.

        The last column is the share of the base score and of what is the same for every candidate.
        """
        ...

    def save(self, folder: Path, name: str) -> None:
        """Writes the ranker to files of `folder` that begin with `name`."""
        ...

    @classmethod
    def load(cls, folder: Path, name: str) -> Self:
        """Reads what `save` wrote. Raises BadBundle for a missing file or one of another version, CorruptBundle for
        one that cannot be read."""
        ...
