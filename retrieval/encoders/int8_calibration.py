"""Whole numbers for the linear layers of a model, by what it reads: see `retrieval.quantise` for what becomes of them.

Post-training quantisation as in Jacob et al. (2018): activations in 8 bits over one range a layer, weights in at most 8
over one range an output. Before that each input is moved, so that its range lies around zero (Outlier Suppression+,
Wei et al., EMNLP 2023), and most of its spread moves into the weights (SmoothQuant, Xiao et al., ICML 2023). Weights
become those that tell most of an output by rounded inputs, and are rounded so that they make up for each other.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from retrieval.encoders.int8_layers import SMALLEST, Grid, Numbers, QuantisedLinear, keep, put, quantisable
from retrieval.encoders.runtime import Encoded, TorchRunner, run_batched, token_batches
from retrieval.encoders.text_encoder import TextEncoder, encode_texts
from retrieval.topk import Vectors

# Of the mean variance of an input, added to each, and as much more as they are many beside the rows that were seen:
# what few rows tell of how inputs go together does not hold of others.
DAMPING, DAMPING_OF_FEW = 0.01, 0.3
BLOCK = 128  # inputs whose rounding is made up for at once
TEXTS, TOKENS = 1_000, 20_000  # that show what a model's layers get, at most
FEW, FEW_TOKENS, FEWEST = 64, 2_000, 8  # texts by which it is seen how much harm a layer does, at most and at least


class Recipe(NamedTuple):
    """How layers become whole numbers: the share of an input's spread that moves into the weights, the largest weight,
    and the share of all products that are of them: layers that harm least for what they save come first."""

    smoothing: float
    top: int
    share: float = 1.0


OF_TEXTS = Recipe(smoothing=0.9, top=127, share=2 / 3)


def calibrate_encoder(folder: Path, texts: Sequence[str]) -> None:
    """`calibrate` a sentence-transformers folder on some of the texts, drawn by chance, if there are any."""
    drawn = np.random.default_rng(0).permutation(len(texts))[:TEXTS]
    encoder = TextEncoder.load(folder, runtime="torch", device="cpu", precision="fp32")
    runner, prompt = encoder.runner, encoder.prompts.get("document", "")
    assert isinstance(runner, TorchRunner)
    tokens = encode_texts(encoder.tokenizer, [prompt + texts[at] for at in drawn.tolist()])
    if not len(tokens.ids):
        return
    parts = [_of(tokens, rows) for rows in alike(tokens.lengths)]
    few = _of(tokens, enough(tokens.lengths[:FEW], FEW_TOKENS, least=FEWEST))
    calibrate(
        runner.module.get_submodule("model"),
        lambda: [run_batched(part, runner, multiple=1) for part in parts],
        folder,
        OF_TEXTS,
        told=lambda: run_batched(few, runner, pad_id=encoder.pad_id),
    )


def alike(lengths: NDArray[np.int64], most: int = TOKENS) -> list[NDArray[np.int64]]:
    """Positions of texts in batches of one length, which need no padding: that is nothing to learn from. The first ones
    alone where all have more than `most` tokens.

    >>> [rows.tolist() for rows in alike(np.array([3, 5, 3, 5]), most=11)]
    [[0, 2], [1]]
    """
    some = lengths[enough(lengths, most)]
    each = (np.flatnonzero(some == length) for length in np.unique(some))
    return [rows[part] for rows in each for part in token_batches(some[rows], multiple=1)]


def enough(lengths: NDArray[np.int64], most: int, *, least: int = 1) -> NDArray[np.int64]:
    """The first positions that have no more than `most` tokens together, but so many at least, or all."""
    return np.arange(max(int((lengths.cumsum() <= most).sum()), min(least, len(lengths))))


def _of(tokens: Encoded, rows: NDArray[np.int64]) -> Encoded:
    return Encoded([tokens.ids[row] for row in rows], [tokens.segments[row] for row in rows])


def calibrate(
    model: nn.Module,
    read: Callable[[], object],
    folder: Path,
    recipe: Recipe,
    *,
    told: Callable[[], Vectors] | None = None,
) -> None:
    """See what the linear layers of a model get while `read` has it read texts, twice, without padding; keep whole
    numbers for them in a folder.

    `told` gives vectors of a few texts, float32 [n, dim], by which harm is seen: a recipe with a share needs it.
    """
    assert (told is None) == (recipe.share == 1)
    layers = quantisable(model)
    seen = {name: Ranges() for name in layers}
    _watch(layers, seen, read)
    ranges = {name: one.found for name, one in seen.items() if one.found is not None}
    groups = _of_one_input(ranges)
    grids = {
        names[0]: grid(ranges[names[0]], [layers[name].weight.detach().float() for name in names], recipe.smoothing)
        for names in groups
    }
    inputs = {name: Inputs(on) for name, on in grids.items()}
    _watch(layers, inputs, read)
    made = [{name: numbers(layers[name], inputs[names[0]], recipe.top) for name in names} for names in groups]
    chosen = made if told is None else _least_harmful(model, made, told, recipe.share)
    keep({name: own for group in chosen for name, own in group.items()}, folder)


class Ranges:
    """The least and the largest of each input of a layer: `found`, float [2, n_in], None where it was never used."""

    def __init__(self) -> None:
        self.found: Tensor | None = None

    def add(self, values: Tensor) -> None:
        """More of them, float [..., n_in]."""
        rows = values.reshape(-1, values.shape[-1]).float()
        ends = torch.stack([rows.amin(dim=0), rows.amax(dim=0)])
        old = ends if self.found is None else self.found
        self.found = torch.stack([torch.minimum(old[0], ends[0]), torch.maximum(old[1], ends[1])])


class Inputs:
    """What a layer was given on its grid: how often, the means of what is rounded and of what rounding takes, float64
    [n_in] each, and how the rounded ones go together and with what is taken from each, float64 [n_in, n_in] both."""

    def __init__(self, on: Grid) -> None:
        self.grid, self.rows, n_in = on, 0, len(on.shift)
        self._near: Tensor | None = None  # the first rows' mean: products of what lies around it lose no digits
        self._sums = torch.zeros(2, n_in, dtype=torch.float64)
        self._products, self._lost = torch.zeros(n_in, n_in), torch.zeros(n_in, n_in)

    def add(self, values: Tensor) -> None:
        """More of them, float [..., n_in]."""
        rows = values.reshape(-1, values.shape[-1]).float()
        rounded = self.grid.rounded(rows)
        lost = self.grid.moved(rows) - rounded
        self._near = rounded.mean(dim=0) if self._near is None else self._near
        around = rounded - self._near
        self._sums += torch.stack([around.double().sum(dim=0), lost.double().sum(dim=0)])
        self._products += around.T @ around
        self._lost += lost.T @ around
        self.rows += len(rows)

    @property
    def means(self) -> tuple[Tensor, Tensor]:
        """Of the rounded ones, and of what rounding took."""
        assert self._near is not None
        around, lost = self._sums / self.rows
        return around + self._near, lost

    @property
    def products(self) -> Tensor:
        """The covariance of the rounded ones."""
        around, _ = self._sums / self.rows
        return self._products.double() / self.rows - torch.outer(around, around)

    @property
    def lost(self) -> Tensor:
        """The covariance of what rounding took from each, and the rounded ones."""
        around, lost = self._sums / self.rows
        return self._lost.double() / self.rows - torch.outer(lost, around)


def _watch(layers: Mapping[str, nn.Linear], by: Mapping[str, Ranges | Inputs], read: Callable[[], object]) -> None:
    """Has what stands for some of the layers see what those are given while texts are read."""
    hooks = [
        layers[name].register_forward_pre_hook(lambda _, given, one=one: one.add(given[0])) for name, one in by.items()
    ]
    with torch.inference_mode():
        read()
    for hook in hooks:
        hook.remove()


def _of_one_input(ranges: Mapping[str, Tensor]) -> list[list[str]]:
    """The names of layers, those that read the same input together."""
    groups: dict[bytes, list[str]] = {}
    for name, seen in ranges.items():
        groups.setdefault(seen.numpy().tobytes(), []).append(name)
    return list(groups.values())


def grid(seen: Tensor, weights: Sequence[Tensor], smoothing: float) -> Grid:
    """The grid of inputs that lay between `seen` float [2, n_in], for the layers that read them, whose `weights` are
    float [n_out, n_in] each."""
    shift = seen.mean(dim=0)
    largest = torch.stack([weight.abs().amax(dim=0) for weight in weights]).amax(dim=0)
    reach = (seen[1] - shift).clamp(min=SMALLEST)
    spread = largest.clamp(min=SMALLEST) ** (1 - smoothing) / reach**smoothing
    end = (reach * spread).max()
    return Grid(shift, spread, torch.stack([-end, end]))


def numbers(layer: nn.Linear, inputs: Inputs, top: int) -> Numbers:
    """The whole numbers of a layer by what it was given: the weights that tell most of its output by rounded inputs,
    rounded themselves, and a bias that gives back what both take in the mean."""
    exact = layer.weight.detach().double() / inputs.grid.spread
    damped = _damped(inputs.products, inputs.rows)
    weights = exact + torch.linalg.solve(damped, inputs.lost.T @ exact.T).T
    steps = weights.abs().amax(dim=1).clamp(min=SMALLEST) / top
    whole = whole_numbers(weights, steps, inputs.products, inputs.rows, top=top)
    rounded, lost = inputs.means
    bias = exact @ (rounded + lost + inputs.grid.shift * inputs.grid.spread) - (whole * steps[:, None]) @ rounded
    if layer.bias is not None:
        bias = bias + layer.bias.detach()
    return Numbers(whole, steps.float(), bias.float(), inputs.grid)


def whole_numbers(weights: Tensor, steps: Tensor, products: Tensor, rows: int, *, top: int) -> Tensor:
    """The whole numbers, int8 [n_out, n_in] of at most `top`, that stand for `weights` float64 [n_out, n_in] in `steps`
    float64 [n_out]: those of later inputs make up for the rounding of earlier ones, as far as the inputs go together,
    whose covariance over so many rows is float64 [n_in, n_in] (GPTQ, Frantar et al., ICLR 2023)."""
    order = products.diagonal().argsort(descending=True)
    damped = _damped(products, rows)[order][:, order]
    upper = torch.linalg.cholesky(torch.cholesky_inverse(torch.linalg.cholesky(damped)), upper=True)
    left, found = weights[:, order], torch.empty(weights.shape, dtype=torch.int8)
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


def _damped(products: Tensor, rows: int) -> Tensor:
    """A covariance over so many rows that can be inverted, and is not taken for more than it is."""
    damping = (DAMPING + DAMPING_OF_FEW * len(products) / rows) * products.diagonal().mean() + SMALLEST**2
    return products + damping * torch.eye(len(products))


def _least_harmful(
    model: nn.Module, made: Sequence[dict[str, Numbers]], told: Callable[[], Vectors], share: float
) -> list[dict[str, Numbers]]:
    """The groups of layers that hold at most so large a share of all products, those first that harm the vectors least
    for each product; what each does alone, they do together."""
    exact = told()
    sizes = [sum(own.whole.numel() for own in group.values()) for group in made]
    harms = [_harm(model, group, told, exact) / size for group, size in zip(made, sizes, strict=True)]
    chosen, left = list[dict[str, Numbers]](), share * sum(sizes)
    for at in np.argsort(harms, kind="stable").tolist():
        if sizes[at] <= left + 1:  # a share is no whole number
            chosen.append(made[at])
            left -= sizes[at]
    return chosen


def _harm(model: nn.Module, group: Mapping[str, Numbers], told: Callable[[], Vectors], exact: Vectors) -> float:
    """The mean squared distance of vectors from exact ones where these layers are of whole numbers, but for what is
    the same in all, which changes no order."""
    own = {name: model.get_submodule(name) for name in group}
    for name, one in group.items():
        put(model, name, QuantisedLinear(one))
    off = told() - exact
    for name, layer in own.items():
        put(model, name, layer)
    return float((off.var(axis=0) if len(off) > 1 else off**2).sum())
