"""int8 for CPUs: quantised linear layers, as `retrieval.encoders.int8_calibration` computes them.

torch emulates the integer arithmetic; OpenVINO, given the same module, multiplies in int8.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from retrieval.encoders.int8_file import INT8, INT8_LAYOUT, require_int8
from retrieval.errors import BadBundle

EPSILON = 1e-5  # least range of an input or a weight, which is divided by
LEVELS = 255  # steps in the range of an activation


class Grid(NamedTuple):
    """The quantisation of a layer's inputs, float [..., n_in].

    Each input is shifted by `-shift` and multiplied by `spread`, float [n_in] each, then rounded to LEVELS steps of one
    range, `ends` float [2].
    """

    shift: Tensor
    spread: Tensor
    ends: Tensor

    def scaled(self, values: Tensor) -> Tensor:
        """Inputs shifted and scaled, not yet rounded, float [..., n_in]."""
        return values * self.spread - self.shift * self.spread

    def rounded(self, values: Tensor) -> Tensor:
        """Inputs shifted, scaled and rounded, float [..., n_in]."""
        low, high = self.ends.tolist()
        step = max(high - low, EPSILON) / LEVELS
        return torch.fake_quantize_per_tensor_affine(self.scaled(values), step, round(-low / step), 0, LEVELS)


class Int8Weights(NamedTuple):
    """The weights of a quantised linear layer.

    `whole` int8 [n_out, n_in] are multiples of `steps` float [n_out], one per output; `bias` float [n_out]; `grid` is
    the quantisation of the inputs.
    """

    whole: Tensor
    steps: Tensor
    bias: Tensor
    grid: Grid

    def named(self, layer: str) -> dict[str, Tensor]:
        """The tensors by name, prefixed by the layer's name, as a file holds them."""
        own = {"whole": self.whole, "steps": self.steps, "bias": self.bias, **self.grid._asdict()}
        return {f"{layer}.{name}": values.clone() for name, values in own.items()}

    @classmethod
    def of(cls, kept: Mapping[str, Tensor], layer: str) -> Int8Weights:
        """From the result of `named`. Raises KeyError where a tensor is missing."""
        whole, steps, bias = (kept[f"{layer}.{name}"] for name in ("whole", "steps", "bias"))
        return cls(whole, steps, bias, Grid(*(kept[f"{layer}.{name}"] for name in Grid._fields)))


class QuantisedLinear(nn.Module):
    """A linear layer from float [..., n_in] to float [..., n_out] that multiplies integers."""

    def __init__(self, weights: Int8Weights) -> None:
        super().__init__()
        self.grid = Grid(*(nn.Parameter(part, requires_grad=False) for part in weights.grid))
        self.steps = nn.Parameter(weights.steps, requires_grad=False)
        self.weight = nn.Parameter(weights.whole * weights.steps[:, None], requires_grad=False)
        self.zeros = nn.Parameter(torch.zeros(len(weights.steps), dtype=torch.int32), requires_grad=False)
        self.bias = nn.Parameter(weights.bias, requires_grad=False)

    def forward(self, values: Tensor) -> Tensor:
        """Float [..., n_in] to float [..., n_out]."""
        weight = torch.fake_quantize_per_channel_affine(self.weight, self.steps, self.zeros, 0, -127, 127)
        return functional.linear(self.grid.rounded(values), weight, self.bias)


def quantisable(model: nn.Module) -> dict[str, nn.Linear]:
    """The linear layers of an encoder's transformer blocks, by name; those after them are small and sensitive."""
    return {
        name: layer
        for name, layer in model.named_modules()
        if isinstance(layer, nn.Linear) and any(part.isdigit() for part in name.split(".")[1:])
    }


def quantise(model: nn.Module, folder: Path) -> None:
    """Replaces the linear layers of a model by quantised ones, where its folder has int8 weights for them.

    Raises BadBundle where the folder has none, or has those of another model or of an earlier version.
    """
    from safetensors.torch import load_file

    require_int8(folder)
    layers, kept = quantisable(model), load_file(folder / INT8)
    try:
        found = {name: Int8Weights.of(kept, name) for name in dict.fromkeys(name.rpartition(".")[0] for name in kept)}
    except KeyError as error:
        raise BadBundle(f"{folder / INT8} has no {error}; train or adopt the model again") from error
    if not all(name in layers and own.whole.shape == layers[name].weight.shape for name, own in found.items()):
        raise BadBundle(f"{folder / INT8} is of another model; train or adopt the model again")
    for name, own in found.items():
        replace_layer(model, name, QuantisedLinear(own))


def replace_layer(model: nn.Module, name: str, layer: nn.Module) -> None:
    """Replaces the layer of that name in a model."""
    parent, _, own = name.rpartition(".")
    setattr(model.get_submodule(parent), own, layer)


def save_int8(weights: Mapping[str, Int8Weights], folder: Path) -> None:
    """Writes the int8 weights of layers, by name, to a model's folder."""
    from safetensors.torch import save_file

    tensors = {name: values for layer, own in weights.items() for name, values in own.named(layer).items()}
    save_file(tensors, folder / INT8, metadata={"layout": INT8_LAYOUT})
