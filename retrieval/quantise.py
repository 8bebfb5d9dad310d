"""int8 for CPUs: ranges that are seen on real texts, and linear layers that compute in whole numbers by them.

Post-training quantisation as in Jacob et al. (2018): activations in 8 bits over one range a layer, weights in at most 8
over one range an output. Before that the spread of each input moves from the activations into the weights, as in
SmoothQuant (Xiao et al., ICML 2023), and weights are rounded so that they make up for each other. torch only emulates
this; OpenVINO, given the same module, multiplies in int8.
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

WHOLE = ".whole"  # after a layer's name, in the file: the whole numbers of its weights
# Of the mean square of an input, added to each, and as much more as they are many beside the rows that were seen: what
# few rows tell of how inputs go together does not hold of others.
DAMPING, DAMPING_OF_FEW = 0.01, 0.3
BLOCK = 128  # inputs whose rounding is made up for at once
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
    """`calibrate` a sentence-transformers folder on some of the texts, drawn by chance."""
    drawn = np.random.default_rng(0).permutation(len(texts))[:TEXTS]
    encoder = TextEncoder.load(folder, runtime="torch", device="cpu", precision="fp32")
    assert isinstance(encoder.runner, TorchRunner)
    some = [texts[at] for at in drawn.tolist()]
    calibrate(encoder.runner.module.get_submodule("model"), lambda: encoder.encode(some), folder, OF_TEXTS)


class Inputs:
    """What a layer was given in so many rows: the least, the largest and the mean of each input, float [n_in], and the
    mean product of each two of them, float64 [n_in, n_in]."""

    def __init__(self, n_in: int) -> None:
        self._least, self._largest = torch.full((n_in,), torch.inf), torch.full((n_in,), -torch.inf)
        self._sum, self._products = torch.zeros(n_in, dtype=torch.float64), torch.zeros(n_in, n_in)
        self.rows = 0

    def add(self, values: Tensor) -> None:
        """More of them, float [..., n_in]."""
        rows = values.reshape(-1, values.shape[-1])
        self._least, self._largest = (
            torch.minimum(self._least, rows.amin(dim=0)), torch.maximum(self._largest, rows.amax(dim=0))
        )  # fmt: skip
        self._sum += rows.double().sum(dim=0)
        self._products += rows.T @ rows
        self.rows += len(rows)

    @property
    def ranges(self) -> Tensor:
        """Least, largest and mean, float [3, n_in]."""
        return torch.stack([self._least, self._largest, (self._sum / self.rows).float()])

    @property
    def products(self) -> Tensor:
        """See the class."""
        return self._products.double() / self.rows


def calibrate(model: nn.Module, read: Callable[[], object], folder: Path, recipe: Recipe) -> None:
    """See which inputs the linear layers of a model get while `read` has it read texts; keep their ranges, and the
    whole numbers of their weights, in a folder."""
    from safetensors.torch import save_file

    layers = {name: layer for name, layer in quantisable(model).items() if recipe.narrowing or not _narrows(layer)}
    seen = {name: Inputs(layer.in_features) for name, layer in layers.items()}
    hooks = [
        layer.register_forward_pre_hook(lambda _, inputs, name=name: seen[name].add(inputs[0]))
        for name, layer in layers.items()
    ]
    with torch.inference_mode():
        read()
    for hook in hooks:
        hook.remove()
    kept = dict[str, Tensor]()
    ranges = {name: inputs.ranges for name, inputs in seen.items() if torch.isfinite(inputs.ranges).all()}
    for names in _of_one_input(ranges):
        spread = _spread([layers[name] for name in names], ranges[names[0]], recipe.smoothing)
        for name in names:
            weights, inputs = layers[name].weight.detach() / spread, seen.pop(name)
            products = inputs.products * spread[:, None] * spread
            kept |= {name: ranges[name], name + WHOLE: whole_numbers(weights, products, inputs.rows, top=recipe.top)}
    save_file(kept, folder / RANGES)


def whole_numbers(weights: Tensor, products: Tensor, rows: int, *, top: int) -> Tensor:
    """The whole numbers, int8 [n_out, n_in] of at most `top`, that stand for `weights` float [n_out, n_in] in steps of
    one size an output: those of later inputs make up for the rounding of earlier ones, as far as the inputs go
    together, whose mean products over so many rows are float64 [n_in, n_in] (GPTQ, Frantar et al., ICLR 2023)."""
    steps, order = _steps(weights, top).double(), products.diagonal().argsort(descending=True)
    damping = (DAMPING + DAMPING_OF_FEW * len(order) / rows) * products.diagonal().mean() + SMALLEST**2
    damped = products[order][:, order] + damping * torch.eye(len(order))
    upper = torch.linalg.cholesky(torch.cholesky_inverse(torch.linalg.cholesky(damped)), upper=True)
    left, found = weights.double()[:, order], torch.empty(weights.shape, dtype=torch.int8)
    for start in range(0, len(order), BLOCK):
        block = left[:, start : start + BLOCK]
        off = torch.empty_like(block)
        for at, row in enumerate(upper[start : start + BLOCK, start : start + BLOCK]):
            rounded = (block[:, at] / steps).round().clamp(-top, top)
            found[:, order[start + at]] = rounded.to(torch.int8)
            off[:, at] = (block[:, at] - rounded * steps) / row[at]
            block[:, at + 1 :] -= off[:, at, None] * row[at + 1 :]
        left[:, start + BLOCK :] -= off @ upper[start : start + BLOCK, start + BLOCK :]
    return found


def quantise(model: nn.Module, folder: Path, recipe: Recipe) -> None:
    """Put whole numbers in the place of a model's linear layers, as its folder keeps them; layers that were never used
    when those were made stay as they are.

    Raises BadBundle where it keeps none, or those of another model.
    """
    from safetensors.torch import load_file

    if not (folder / RANGES).exists():
        raise BadBundle(f"{folder} holds no {RANGES}, so that it cannot run in int8; train or adopt the model again")
    layers, kept = quantisable(model), load_file(folder / RANGES)
    ranges = {name: _with_mean(values) for name, values in kept.items() if not name.endswith(WHOLE)}
    if not all(name in layers and len(values[0]) == layers[name].in_features for name, values in ranges.items()):
        raise BadBundle(f"{folder / RANGES} is of another model; train or adopt the model again")
    for names in _of_one_input(ranges):
        spread = _spread([layers[name] for name in names], ranges[names[0]], recipe.smoothing)
        for name in names:
            if _narrows(layers[name]) and not recipe.narrowing:
                continue
            parent, _, own = name.rpartition(".")
            layer = QuantisedLinear(layers[name], ranges[name], spread, kept.get(name + WHOLE), top=recipe.top)
            setattr(model.get_submodule(parent), own, layer)


def _with_mean(seen: Tensor) -> Tensor:
    """Ranges of an input with its mean; those that were kept before means were, with none to give back."""
    return seen if len(seen) > 2 else torch.cat([seen, torch.zeros_like(seen[:1])])


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

    `seen` float [3, n_in] are the least, the largest and the mean of each input, `spread` float [n_in] what inputs are
    multiplied by and weights are divided by, `whole` int8 [n_out, n_in] the weights so (none: the nearest, as before
    they made up for each other), and `top` the largest that one of them may be. What rounding takes from or gives to an
    output in the mean is in its bias.
    """

    def __init__(self, layer: nn.Linear, seen: Tensor, spread: Tensor, whole: Tensor | None, *, top: int) -> None:
        super().__init__()
        low = float((seen[0] * spread).min().clamp(max=0))
        high = float((seen[1] * spread).max().clamp(min=0))
        self.step = max(high - low, SMALLEST) / LEVELS
        self.zero = round(-low / self.step)
        weights = layer.weight.detach() / spread
        self.spread = nn.Parameter(spread, requires_grad=False)
        self.steps = nn.Parameter(_steps(weights, top), requires_grad=False)
        whole = (weights / self.steps[:, None]).round() if whole is None else whole
        self.weight = nn.Parameter(whole * self.steps[:, None], requires_grad=False)
        self.zeros = nn.Parameter(torch.zeros(len(self.steps), dtype=torch.int32), requires_grad=False)
        off = (weights - self.weight) @ (seen[2] * spread)
        self.bias = nn.Parameter(off if layer.bias is None else layer.bias.detach() + off, requires_grad=False)

    def forward(self, values: Tensor) -> Tensor:
        """See the class."""
        values = torch.fake_quantize_per_tensor_affine(values * self.spread, self.step, self.zero, 0, LEVELS)
        weight = torch.fake_quantize_per_channel_affine(self.weight, self.steps, self.zeros, 0, -127, 127)
        return functional.linear(values, weight, self.bias)


def _steps(weights: Tensor, top: int) -> Tensor:
    """The size of each output's whole numbers, float [n_out], for weights float [n_out, n_in]."""
    return weights.abs().amax(dim=1).clamp(min=SMALLEST) / top


def _spread(layers: list[nn.Linear], seen: Tensor, smoothing: float) -> Tensor:
    """What each input is multiplied by, float [n_in], so that the layers that read it share one number."""
    weights = torch.stack([layer.weight.detach().abs().amax(dim=0) for layer in layers]).amax(dim=0)
    inputs = seen[:2].abs().amax(dim=0)
    return weights.clamp(min=SMALLEST) ** (1 - smoothing) / inputs.clamp(min=SMALLEST) ** smoothing


def _of_one_input(ranges: Mapping[str, Tensor]) -> list[list[str]]:
    """The names of layers, those that read the same input together."""
    groups: dict[bytes, list[str]] = {}
    for name, seen in ranges.items():
        groups.setdefault(seen.numpy().tobytes(), []).append(name)
    return list(groups.values())
