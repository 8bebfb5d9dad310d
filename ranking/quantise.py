"""int8 for CPUs: ranges that are seen on real pairs, and linear layers that compute in whole numbers by them.

Post-training quantisation as in Jacob et al. (2018): activations in 8 bits over one range a layer, weights in 7 bits
over one range an output, so that sums of two products fit 16 bits on CPUs without VNNI. Before that the spread of each
input moves from the activations into the weights, as in SmoothQuant (Xiao et al., ICML 2023). torch only emulates this;
OpenVINO, given the same module, multiplies in int8.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from ranking.cross_encoder import RANGES, logit_module, open_cross_encoder
from ranking.pair_tokens import PairBatch, PairTokenizer
from retrieval.errors import BadBundle
from retrieval.runtime import token_batches

PAIRS = 300  # that show a model's ranges
SMOOTHING = 0.95  # the share of an input's spread that moves into the weights: half of it made scores worse than none
SMALLEST = 1e-5  # of an input's and a weight's range: one that was never used must not be divided by
LEVELS, TOP = 255, 63  # steps of an activation's range; the largest weight


def calibrate(folder: Path, batches: Iterable[PairBatch]) -> None:
    """See which inputs the linear layers of a cross-encoder's folder get, and keep their ranges there."""
    from safetensors.torch import save_file

    model = open_cross_encoder(folder)
    module, ranges = logit_module(model), dict[str, Tensor]()

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
        for batch in batches:
            module(*map(torch.from_numpy, batch))
    for hook in hooks:
        hook.remove()
    save_file({name: values.clone() for name, values in ranges.items()}, folder / RANGES)


def calibrate_on(folder: Path, pairs: Sequence[tuple[str, str]]) -> None:
    """`calibrate` on pairs of (user text, item text)."""
    tokenizer, every = PairTokenizer.load(folder), np.arange(len(pairs))
    tokenised = tokenizer.pairs([user for user, _ in pairs], [item for _, item in pairs], every, every)
    batches = token_batches(tokenizer.lengths(tokenised))
    calibrate(folder, (tokenizer.batch(tokenised.select(batch)) for batch in batches))


def quantise(model: nn.Module, folder: Path) -> None:
    """Put whole numbers in the place of a model's linear layers, by the ranges that its folder keeps.

    Raises BadBundle where it keeps none, or those of another model.
    """
    from safetensors.torch import load_file

    if not (folder / RANGES).exists():
        raise BadBundle(f"{folder} holds no {RANGES}, so that it cannot be served in int8; train the ranker again")
    layers, ranges = quantisable(model), load_file(folder / RANGES)
    if set(layers) != set(ranges):
        raise BadBundle(f"{folder / RANGES} is of another model; train the ranker again")
    for names in _of_one_input(ranges):
        spread = _spread([layers[name] for name in names], ranges[names[0]])
        for name in names:
            parent, _, own = name.rpartition(".")
            setattr(model.get_submodule(parent), own, QuantisedLinear(layers[name], ranges[name], spread))


def quantisable(model: nn.Module) -> dict[str, nn.Linear]:
    """The linear layers of an encoder's stack, by name: what comes after it is small, and shapes the score."""
    return {
        name: layer
        for name, layer in model.named_modules()
        if isinstance(layer, nn.Linear) and any(part.isdigit() for part in name.split(".")[1:])
    }


class QuantisedLinear(nn.Module):
    """A linear layer from float [..., n_in] to float [..., n_out] whose product is of whole numbers.

    `seen` float [2, n_in] are the least and the largest of each input, `spread` float [n_in] what inputs are multiplied
    by and weights are divided by.
    """

    def __init__(self, layer: nn.Linear, seen: Tensor, spread: Tensor) -> None:
        super().__init__()
        low = float((seen[0] * spread).min().clamp(max=0))
        high = float((seen[1] * spread).max().clamp(min=0))
        self.step = max(high - low, SMALLEST) / LEVELS
        self.zero = round(-low / self.step)
        self.spread = nn.Parameter(spread, requires_grad=False)
        self.weight = nn.Parameter(layer.weight.detach() / spread, requires_grad=False)
        self.steps = nn.Parameter(self.weight.abs().amax(dim=1).clamp(min=SMALLEST) / TOP, requires_grad=False)
        self.zeros = nn.Parameter(torch.zeros(len(self.steps), dtype=torch.int32), requires_grad=False)
        self.bias = layer.bias

    def forward(self, values: Tensor) -> Tensor:
        """See the class."""
        values = torch.fake_quantize_per_tensor_affine(values * self.spread, self.step, self.zero, 0, LEVELS)
        weight = torch.fake_quantize_per_channel_affine(self.weight, self.steps, self.zeros, 0, -127, 127)
        return functional.linear(values, weight, self.bias)


def _spread(layers: list[nn.Linear], seen: Tensor) -> Tensor:
    """What each input is multiplied by, float [n_in], so that the layers that read it share one number."""
    weights = torch.stack([layer.weight.detach().abs().amax(dim=0) for layer in layers]).amax(dim=0)
    inputs = seen.abs().amax(dim=0)
    return weights.clamp(min=SMALLEST) ** (1 - SMOOTHING) / inputs.clamp(min=SMALLEST) ** SMOOTHING


def _of_one_input(ranges: Mapping[str, Tensor]) -> list[list[str]]:
    """The names of layers, those that read the same input together."""
    groups: dict[bytes, list[str]] = {}
    for name, seen in ranges.items():
        groups.setdefault(seen.numpy().tobytes(), []).append(name)
    return list(groups.values())
