"""int8 for CPUs: ranges that are seen on real texts, and linear layers that compute in whole numbers by them.

Post-training quantisation as in Jacob et al. (2018): activations in 8 bits over one range a layer, weights in at most 8
over one range an output. Before that the spread of each input moves from the activations into the weights, as in
SmoothQuant (Xiao et al., ICML 2023). torch only emulates this; OpenVINO, given the same module, multiplies in int8.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from retrieval.encoder import TextEncoder
from retrieval.errors import BadBundle
from retrieval.runtime import RANGES, TorchRunner

SMALLEST = 1e-5  # of an input's and a weight's range: one that was never used must not be divided by
LEVELS = 255  # steps of an activation's range


class Recipe(NamedTuple):
    """How layers become whole numbers: the share of an input's spread that moves into the weights, the largest weight,
    and whether layers with fewer outputs than inputs do: those of a feed-forward part read what lies furthest apart."""

    smoothing: float
    top: int
    narrowing: bool


OF_TEXTS = Recipe(smoothing=0.8, top=127, narrowing=False)  # with narrowing layers the median cosine is .9985
TEXTS = 300  # that show a text encoder's ranges


def calibrate_encoder(folder: Path, texts: Sequence[str]) -> None:
    """See which inputs the layers of a sentence-transformers folder get where it reads some of the texts, drawn by
    chance, and keep their ranges there."""
    drawn = np.random.default_rng(0).permutation(len(texts))[:TEXTS]
    encoder = TextEncoder.load(folder, runtime="torch", device="cpu", precision="fp32")
    assert isinstance(encoder.runner, TorchRunner)
    some = [texts[at] for at in drawn.tolist()]
    calibrate(encoder.runner.module.get_submodule("model"), lambda: encoder.encode(some), folder)


def calibrate(model: nn.Module, read: Callable[[], object], folder: Path) -> None:
    """See which inputs the linear layers of a model get while `read` has it read texts, and keep their ranges in a
    folder."""
    from safetensors.torch import save_file

    ranges = dict[str, Tensor]()

    def seen(name: str, inputs: tuple[Tensor, ...]) -> None:
        values = inputs[0].reshape(-1, inputs[0].shape[-1])
        found = torch.stack([values.amin(dim=0), values.amax(dim=0)])
        known = ranges.get(name, found)
        ranges[name] = torch.stack([torch.minimum(known[0], found[0]), torch.maximum(known[1], found[1])])

    hooks = [
        layer.register_forward_pre_hook(lambda _, inputs, name=name: seen(name, inputs))
        for name, layer in quantisable(model).items()
    ]
    with torch.inference_mode():
        read()
    for hook in hooks:
        hook.remove()
    save_file({name: values.clone() for name, values in ranges.items()}, folder / RANGES)


def quantise(model: nn.Module, folder: Path, recipe: Recipe) -> None:
    """Put whole numbers in the place of a model's linear layers, by the ranges that its folder keeps; layers that were
    never used when those were seen stay as they are.

    Raises BadBundle where it keeps none, or those of another model.
    """
    from safetensors.torch import load_file

    if not (folder / RANGES).exists():
        raise BadBundle(f"{folder} holds no {RANGES}, so that it cannot run in int8; train or adopt the model again")
    layers, ranges = quantisable(model), load_file(folder / RANGES)
    if not set(ranges) <= set(layers):
        raise BadBundle(f"{folder / RANGES} is of another model; train or adopt the model again")
    for names in _of_one_input(ranges):
        kept = [name for name in names if recipe.narrowing or not _narrows(layers[name])]
        spread = _spread([layers[name] for name in names], ranges[names[0]], recipe.smoothing)
        for name in kept:
            parent, _, own = name.rpartition(".")
            setattr(
                model.get_submodule(parent), own, QuantisedLinear(layers[name], ranges[name], spread, top=recipe.top)
            )


def _narrows(layer: nn.Linear) -> bool:
    return layer.out_features < layer.in_features


def quantisable(model: nn.Module) -> dict[str, nn.Linear]:
    """The linear layers of an encoder's stack, by name: what comes after it is small, and shapes what is told."""
    return {
        name: layer
        for name, layer in model.named_modules()
        if isinstance(layer, nn.Linear) and any(part.isdigit() for part in name.split(".")[1:])
    }


class QuantisedLinear(nn.Module):
    """A linear layer from float [..., n_in] to float [..., n_out] whose product is of whole numbers.

    `seen` float [2, n_in] are the least and the largest of each input, `spread` float [n_in] what inputs are multiplied
    by and weights are divided by, `top` the largest whole number of a weight.
    """

    def __init__(self, layer: nn.Linear, seen: Tensor, spread: Tensor, *, top: int) -> None:
        super().__init__()
        low = float((seen[0] * spread).min().clamp(max=0))
        high = float((seen[1] * spread).max().clamp(min=0))
        self.step = max(high - low, SMALLEST) / LEVELS
        self.zero = round(-low / self.step)
        self.spread = nn.Parameter(spread, requires_grad=False)
        self.weight = nn.Parameter(layer.weight.detach() / spread, requires_grad=False)
        self.steps = nn.Parameter(self.weight.abs().amax(dim=1).clamp(min=SMALLEST) / top, requires_grad=False)
        self.zeros = nn.Parameter(torch.zeros(len(self.steps), dtype=torch.int32), requires_grad=False)
        self.bias = layer.bias

    def forward(self, values: Tensor) -> Tensor:
        """See the class."""
        values = torch.fake_quantize_per_tensor_affine(values * self.spread, self.step, self.zero, 0, LEVELS)
        weight = torch.fake_quantize_per_channel_affine(self.weight, self.steps, self.zeros, 0, -127, 127)
        return functional.linear(values, weight, self.bias)


def _spread(layers: list[nn.Linear], seen: Tensor, smoothing: float) -> Tensor:
    """What each input is multiplied by, float [n_in], so that the layers that read it share one number."""
    weights = torch.stack([layer.weight.detach().abs().amax(dim=0) for layer in layers]).amax(dim=0)
    inputs = seen.abs().amax(dim=0)
    return weights.clamp(min=SMALLEST) ** (1 - smoothing) / inputs.clamp(min=SMALLEST) ** smoothing


def _of_one_input(ranges: Mapping[str, Tensor]) -> list[list[str]]:
    """The names of layers, those that read the same input together."""
    groups: dict[bytes, list[str]] = {}
    for name, seen in ranges.items():
        groups.setdefault(seen.numpy().tobytes(), []).append(name)
    return list(groups.values())
