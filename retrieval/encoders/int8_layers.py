"""int8 for CPUs: linear layers of whole numbers, as `retrieval.calibrate` found them and a folder keeps them.

torch only emulates this; OpenVINO, given the same module, multiplies in int8.
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

SMALLEST = 1e-5  # of an input's and a weight's range: one that was never used must not be divided by
LEVELS = 255  # steps of an activation's range


class Grid(NamedTuple):
    """How the inputs of a layer, float [..., n_in], become whole numbers: each less its `shift` and times its `spread`,
    float [n_in], over one range, `ends` float [2]."""

    shift: Tensor
    spread: Tensor
    ends: Tensor

    def moved(self, values: Tensor) -> Tensor:
        """Inputs as they are rounded, before they are."""
        return values * self.spread - self.shift * self.spread

    def rounded(self, values: Tensor) -> Tensor:
        """Inputs moved and rounded, float [..., n_in]."""
        low, high = self.ends.tolist()
        step = max(high - low, SMALLEST) / LEVELS
        return torch.fake_quantize_per_tensor_affine(self.moved(values), step, round(-low / step), 0, LEVELS)


class Numbers(NamedTuple):
    """A linear layer by whole numbers: `whole` int8 [n_out, n_in] in steps of one size an output, `steps` float
    [n_out], and its `bias`, float [n_out], for inputs on a grid."""

    whole: Tensor
    steps: Tensor
    bias: Tensor
    grid: Grid

    def named(self, layer: str) -> dict[str, Tensor]:
        """As a file holds them, by the layer's name."""
        own = {"whole": self.whole, "steps": self.steps, "bias": self.bias, **self.grid._asdict()}
        return {f"{layer}.{name}": values.clone() for name, values in own.items()}

    @classmethod
    def of(cls, kept: Mapping[str, Tensor], layer: str) -> Numbers:
        """From `named`. Raises KeyError where some are missing."""
        whole, steps, bias = (kept[f"{layer}.{name}"] for name in ("whole", "steps", "bias"))
        return cls(whole, steps, bias, Grid(*(kept[f"{layer}.{name}"] for name in Grid._fields)))


class QuantisedLinear(nn.Module):
    """A linear layer from float [..., n_in] to float [..., n_out] whose product is of whole numbers."""

    def __init__(self, numbers: Numbers) -> None:
        super().__init__()
        self.grid = Grid(*(nn.Parameter(part, requires_grad=False) for part in numbers.grid))
        self.steps = nn.Parameter(numbers.steps, requires_grad=False)
        self.weight = nn.Parameter(numbers.whole * numbers.steps[:, None], requires_grad=False)
        self.zeros = nn.Parameter(torch.zeros(len(numbers.steps), dtype=torch.int32), requires_grad=False)
        self.bias = nn.Parameter(numbers.bias, requires_grad=False)

    def forward(self, values: Tensor) -> Tensor:
        """See the class."""
        weight = torch.fake_quantize_per_channel_affine(self.weight, self.steps, self.zeros, 0, -127, 127)
        return functional.linear(self.grid.rounded(values), weight, self.bias)


def quantisable(model: nn.Module) -> dict[str, nn.Linear]:
    """The linear layers of an encoder's stack, by name: what comes after it is small, and shapes what is told."""
    return {
        name: layer
        for name, layer in model.named_modules()
        if isinstance(layer, nn.Linear) and any(part.isdigit() for part in name.split(".")[1:])
    }


def quantise(model: nn.Module, folder: Path) -> None:
    """Put whole numbers in the place of those of a model's linear layers for which its folder keeps some.

    Raises BadBundle where it keeps none, those of another model, or those that an earlier version made.
    """
    from safetensors.torch import load_file

    require_int8(folder)
    layers, kept = quantisable(model), load_file(folder / INT8)
    try:
        found = {name: Numbers.of(kept, name) for name in dict.fromkeys(name.rpartition(".")[0] for name in kept)}
    except KeyError as error:
        raise BadBundle(f"{folder / INT8} has no {error}; train or adopt the model again") from error
    if not all(name in layers and own.whole.shape == layers[name].weight.shape for name, own in found.items()):
        raise BadBundle(f"{folder / INT8} is of another model; train or adopt the model again")
    for name, own in found.items():
        put(model, name, QuantisedLinear(own))


def put(model: nn.Module, name: str, layer: nn.Module) -> None:
    """A layer in the place of a model's own of that name."""
    parent, _, own = name.rpartition(".")
    setattr(model.get_submodule(parent), own, layer)


def keep(numbers: Mapping[str, Numbers], folder: Path) -> None:
    """Write the whole numbers of layers, by name, beside their model."""
    from safetensors.torch import save_file

    tensors = {name: values for layer, own in numbers.items() for name, values in own.named(layer).items()}
    save_file(tensors, folder / INT8, metadata={"layout": INT8_LAYOUT})
