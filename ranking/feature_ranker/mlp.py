"""The MLP kind: networks of one hidden layer over standardised features, added to the score of the order before."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from ranking.feature_ranker.files import REMEDY, not_of_this_version, read_about, write_about
from ranking.feature_ranker.inputs import Inputs
from ranking.feature_ranker.protocol import Features, Scores
from retrieval.errors import BadBundle, CorruptBundle

Floats = NDArray[np.float32]
HALF, ONE = np.float32(0.5), np.float32(1)
FLAT = 1e-3  # change of a hidden unit below which its slope stands for a difference quotient


@dataclass(frozen=True)
class MLPRanker:
    """`base_weight` * base + the mean output of networks trained from several seeds.

    The mean of networks of one hidden layer is one network with all their hidden units, and that is what is held here.
    Each unit is a SiLU (Elfwing et al. 2018, "Sigmoid-weighted linear units"). Without training `outgoing` is 0, so
    that the order is the base's.
    """

    names: tuple[str, ...]
    inputs: Inputs
    incoming: Floats  # [inputs.width, n_hidden]
    bias: Floats  # [n_hidden]
    outgoing: Floats  # [n_hidden]
    base_weight: float

    kind = "mlp"

    def score(self, features: Features, base: Scores) -> Scores:
        """See `FeatureRanker.score`."""
        hidden = silu(self.inputs(features) @ self.incoming + self.bias)
        return np.asarray(hidden @ self.outgoing + np.float32(self.base_weight) * base, np.float32)

    def contributions(self, features: Features, base: Scores) -> Floats:
        """See `FeatureRanker.contributions`: integrated gradients (Sundararajan et al., ICML 2017).

        The path is the straight line from the mean of the training pairs, nothing missing. Along it the slope of a unit
        averages to its change over the change of its argument, so that the integral is exact.
        """
        inputs = self.inputs(features)
        change = inputs @ self.incoming
        slope = _mean_slope(change, self.bias) * self.outgoing
        gradient = np.asarray(slope @ self.incoming.T, np.float32)
        shares = self.inputs.by_feature(inputs * gradient)
        constant = silu(self.bias) @ self.outgoing
        return np.column_stack([shares, np.float32(self.base_weight) * base + constant]).astype(np.float32, copy=False)

    def save(self, folder: Path, name: str) -> None:
        """Writes `name`.json and `name`.safetensors."""
        from safetensors.numpy import save_file

        about = {"names": self.names, "inputs": self.inputs.as_json(), "base_weight": self.base_weight}
        write_about(folder, name, self.kind, about)
        layers = {part: np.ascontiguousarray(getattr(self, part)) for part in ("incoming", "bias", "outgoing")}
        save_file(layers, folder / f"{name}.safetensors")

    @classmethod
    def load(cls, folder: Path, name: str) -> Self:
        """See `FeatureRanker.load`."""
        about, layers = read_about(folder, name), _layers(folder / f"{name}.safetensors")
        try:
            ranker = cls(
                names=tuple(about["names"]),
                inputs=Inputs.from_json(about["inputs"]),
                base_weight=float(about["base_weight"]),
                **layers,
            )
            if ranker.incoming.shape != (ranker.inputs.width, len(ranker.bias)) or not (
                ranker.outgoing.shape == ranker.bias.shape and len(ranker.names) == ranker.inputs.n_features
            ):
                raise ValueError("names, inputs and layers do not fit one another")
        except (KeyError, TypeError, ValueError) as error:
            raise not_of_this_version(folder, name, error) from error
        return ranker


def silu(values: Floats) -> Floats:
    """x * sigmoid(x), float32 of the same shape."""
    return values * _sigmoid(values)


def _mean_slope(change: Floats, start: Floats) -> Floats:
    """The mean derivative of silu from `start` [h] to `start + change` [m, h], float32 [m, h]."""
    flat = np.abs(change) < FLAT
    middle = start + change * HALF
    sigmoid = _sigmoid(middle)
    slope = sigmoid * (ONE + middle * (ONE - sigmoid))
    quotient = (silu(start + change) - silu(start)) / np.where(flat, ONE, change)
    return np.where(flat, slope, quotient)


def _sigmoid(values: Floats) -> Floats:
    return np.asarray(HALF + HALF * np.tanh(HALF * values), np.float32)


def _layers(path: Path) -> dict[str, Floats]:
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    if not path.exists():
        raise BadBundle(f"{path} is missing; {REMEDY}")
    try:
        return load_file(path)
    except SafetensorError as error:
        raise CorruptBundle(f"{path} cannot be read ({error}); {REMEDY}") from error
