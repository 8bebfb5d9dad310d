"""int8 calibration: post-training quantisation of a model's linear layers on sample texts.

As in Jacob et al. (2018), activations get 8 bits over one range per layer, and weights at most 8 bits over one range
per output. Before that, inputs are shifted so that their ranges are centred at zero (Outlier Suppression+, Wei et al.,
EMNLP 2023), and most of their spread is moved into the weights (SmoothQuant, Xiao et al., ICML 2023). Weights are then
refitted to the rounded inputs, and rounded so that their errors compensate each other (GPTQ, Frantar et al., ICLR
2023). `retrieval.encoders.int8_layers` runs the result.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from retrieval.encoders.batching import Encoded, run_batched, token_batches
from retrieval.encoders.int8_layers import (
    EPSILON,
    Grid,
    Int8Weights,
    QuantisedLinear,
    quantisable,
    replace_layer,
    save_int8,
)
from retrieval.encoders.kept_tensors import KeptTensors
from retrieval.encoders.runtime import TorchRunner
from retrieval.encoders.text_encoder import TextEncoder, encode_texts
from retrieval.topk import Vectors

# Damping of the inputs' covariance, as a share of its mean variance: a constant, and a part that grows with the number
# of inputs per observed row, because few rows estimate a covariance badly.
DAMPING, DAMPING_OF_FEW = 0.01, 0.3
BLOCK = 128  # inputs whose rounding errors are compensated at once
TEXTS, TOKENS = 1_000, 20_000  # calibration texts and their tokens, at most
FEW, FEW_TOKENS, FEWEST = 64, 2_000, 8  # texts by which the error of each layer is measured: at most, and at least


class Recipe(NamedTuple):
    """How layers are quantised.

    `smoothing` is the share of the inputs' spread that is moved into the weights, `top` the largest quantised weight,
    and `share` the share of all multiplications to quantise, the layers of least error per multiplication first.
    """

    smoothing: float
    top: int
    share: float = 1.0


OF_TEXTS = Recipe(smoothing=0.9, top=127, share=2 / 3)


def calibrate_encoder(folder: Path, texts: Sequence[str], *, work: Path | None = None) -> None:
    """Calibrates the model in a sentence-transformers folder on a random sample of `texts`, if there are any. In `work`
    lies what an interrupted calibration goes on from."""
    drawn = np.random.default_rng(0).permutation(len(texts))[:TEXTS]
    encoder = TextEncoder.load(folder, runtime="torch", device="cpu", precision="fp32")
    runner, prompt = encoder.runner, encoder.prompts.get("document", "")
    assert isinstance(runner, TorchRunner)
    tokens = encode_texts(encoder.tokenizer, [prompt + texts[at] for at in drawn.tolist()])
    if not len(tokens.ids):
        return
    parts = [_of(tokens, rows) for rows in same_length_batches(tokens.lengths)]
    few = _of(tokens, first_within(tokens.lengths[:FEW], FEW_TOKENS, least=FEWEST))
    calibrate(
        runner.module.get_submodule("model"),
        lambda: [run_batched(part, runner, multiple=1) for part in parts],
        folder,
        OF_TEXTS,
        work=work,
        embed_sample=lambda: run_batched(few, runner, pad_id=encoder.pad_id),
    )


def same_length_batches(lengths: NDArray[np.int64], most: int = TOKENS) -> list[NDArray[np.int64]]:
    """Positions of texts in batches of one length each, which need no padding; at most `most` tokens in all.

    >>> [rows.tolist() for rows in same_length_batches(np.array([3, 5, 3, 5]), most=11)]
    [[0, 2], [1]]
    """
    some = lengths[first_within(lengths, most)]
    each = (np.flatnonzero(some == length) for length in np.unique(some))
    return [rows[part] for rows in each for part in token_batches(some[rows], multiple=1)]


def first_within(lengths: NDArray[np.int64], most: int, *, least: int = 1) -> NDArray[np.int64]:
    """The first positions with at most `most` tokens together, but at least `least` of them, if there are."""
    return np.arange(max(int((lengths.cumsum() <= most).sum()), min(least, len(lengths))))


def _of(tokens: Encoded, rows: NDArray[np.int64]) -> Encoded:
    return Encoded([tokens.ids[row] for row in rows], [tokens.segments[row] for row in rows])


def calibrate(
    model: nn.Module,
    run: Callable[[], object],
    folder: Path,
    recipe: Recipe,
    *,
    work: Path | None = None,
    embed_sample: Callable[[], Vectors] | None = None,
) -> None:
    """Quantises the linear layers of a model and writes their int8 weights to `folder`.

    `run` runs the model on the calibration texts, without padding; it is called twice, while the inputs of the layers
    are observed. What was observed is kept in the folder `work`, if one is given, from which an interrupted calibration
    of the same model on the same texts goes on; the caller removes it. `embed_sample` returns vectors of a few texts,
    float32 [n, dim], by which the error of each layer is measured; it is needed if `recipe.share` is below 1.
    """
    assert (embed_sample is None) == (recipe.share == 1)
    layers, kept = quantisable(model), KeptTensors.of(work, model)
    seen = kept.get("ranges", lambda: _ranges(layers, run))
    ranges = {name: seen[name] for name in layers if name in seen}  # files sort their names
    groups = _of_one_input(ranges)
    grids = {
        names[0]: grid(ranges[names[0]], [layers[name].weight.detach().float() for name in names], recipe.smoothing)
        for names in groups
    }
    seen = kept.get("statistics", lambda: _statistics(layers, grids, run))
    inputs = {name: InputStatistics.of(on, seen, name) for name, on in grids.items()}
    made = [{name: quantised(layers[name], inputs[names[0]], recipe.top) for name in names} for names in groups]
    chosen = made if embed_sample is None else _least_harmful(model, made, embed_sample, recipe.share)
    save_int8({name: own for group in chosen for name, own in group.items()}, folder)


class Ranges:
    """The observed minimum and maximum of each input of a layer: `found` float [2, n_in], None before the first."""

    def __init__(self) -> None:
        self.found: Tensor | None = None

    def add(self, values: Tensor) -> None:
        """Observes inputs, float [..., n_in]."""
        rows = values.reshape(-1, values.shape[-1]).float()
        ends = torch.stack([rows.amin(dim=0), rows.amax(dim=0)])
        old = ends if self.found is None else self.found
        self.found = torch.stack([torch.minimum(old[0], ends[0]), torch.maximum(old[1], ends[1])])


class InputStatistics:
    """Statistics of a layer's inputs on its grid: `rows` observed, and means and covariances of the rounded inputs and
    of their rounding errors."""

    SUMS = ("rows", "near", "sums", "products", "lost")

    def __init__(self, on: Grid) -> None:
        self.grid, self.rows, n_in = on, 0, len(on.shift)
        self._near: Tensor | None = None  # mean of the first rows; centring by it keeps the sums of products precise
        self._sums = torch.zeros(2, n_in, dtype=torch.float64)
        self._products, self._lost = torch.zeros(n_in, n_in), torch.zeros(n_in, n_in)

    def add(self, values: Tensor) -> None:
        """Observes inputs, float [..., n_in]."""
        rows = values.reshape(-1, values.shape[-1]).float()
        rounded = self.grid.rounded(rows)
        lost = self.grid.scaled(rows) - rounded
        self._near = rounded.mean(dim=0) if self._near is None else self._near
        around = rounded - self._near
        self._sums += torch.stack([around.double().sum(dim=0), lost.double().sum(dim=0)])
        self._products += around.T @ around
        self._lost += lost.T @ around
        self.rows += len(rows)

    def named(self, layer: str) -> dict[str, Tensor]:
        """The sums by name, prefixed by the layer's name, as a file holds them."""
        assert self._near is not None
        own = [torch.tensor(self.rows), self._near, self._sums, self._products, self._lost]
        return {f"{layer}.{name}": values for name, values in zip(self.SUMS, own, strict=True)}

    @classmethod
    def of(cls, on: Grid, kept: Mapping[str, Tensor], layer: str) -> InputStatistics:
        """From the result of `named`."""
        found = cls(on)
        rows, found._near, found._sums, found._products, found._lost = (kept[f"{layer}.{name}"] for name in cls.SUMS)
        found.rows = int(rows)
        return found

    @property
    def means(self) -> tuple[Tensor, Tensor]:
        """The means of the rounded inputs and of the rounding errors, float64 [n_in] each."""
        assert self._near is not None
        around, lost = self._sums / self.rows
        return around + self._near, lost

    @property
    def products(self) -> Tensor:
        """The covariance of the rounded inputs, float64 [n_in, n_in]."""
        around, _ = self._sums / self.rows
        return self._products.double() / self.rows - torch.outer(around, around)

    @property
    def lost(self) -> Tensor:
        """The covariance of rounding errors (rows) with rounded inputs (columns), float64 [n_in, n_in]."""
        around, lost = self._sums / self.rows
        return self._lost.double() / self.rows - torch.outer(lost, around)


def _observe(
    layers: Mapping[str, nn.Linear], observers: Mapping[str, Ranges | InputStatistics], run: Callable[[], object]
) -> None:
    """Calls `run` while each observer sees the inputs of the layer of its name."""
    hooks = [
        layers[name].register_forward_pre_hook(lambda _, given, one=one: one.add(given[0]))
        for name, one in observers.items()
    ]
    with torch.inference_mode():
        run()
    for hook in hooks:
        hook.remove()


def _ranges(layers: Mapping[str, nn.Linear], run: Callable[[], object]) -> dict[str, Tensor]:
    """The range of each layer's inputs, float [2, n_in], by name; of layers that read none, nothing."""
    seen = {name: Ranges() for name in layers}
    _observe(layers, seen, run)
    return {name: one.found for name, one in seen.items() if one.found is not None}


def _statistics(
    layers: Mapping[str, nn.Linear], grids: Mapping[str, Grid], run: Callable[[], object]
) -> dict[str, Tensor]:
    """The statistics of inputs on their grids, as `InputStatistics.named` gives them."""
    seen = {name: InputStatistics(on) for name, on in grids.items()}
    _observe(layers, seen, run)
    return {key: values for name, one in seen.items() for key, values in one.named(name).items()}


def _of_one_input(ranges: Mapping[str, Tensor]) -> list[list[str]]:
    """The names of layers, grouped by those that read the same input."""
    groups: dict[bytes, list[str]] = {}
    for name, seen in ranges.items():
        groups.setdefault(seen.numpy().tobytes(), []).append(name)
    return list(groups.values())


def grid(seen: Tensor, weights: Sequence[Tensor], smoothing: float) -> Grid:
    """The grid for inputs of the observed range `seen`, float [2, n_in].

    `weights` are those of all layers that read these inputs, float [n_out, n_in] each.
    """
    shift = seen.mean(dim=0)
    largest = torch.stack([weight.abs().amax(dim=0) for weight in weights]).amax(dim=0)
    reach = (seen[1] - shift).clamp(min=EPSILON)
    spread = largest.clamp(min=EPSILON) ** (1 - smoothing) / reach**smoothing
    end = (reach * spread).max()
    return Grid(shift, spread, torch.stack([-end, end]))


def quantised(layer: nn.Linear, inputs: InputStatistics, top: int) -> Int8Weights:
    """The int8 weights of a layer: least-squares weights for the rounded inputs, rounded to at most `top`, and a bias
    that corrects the mean error of both roundings."""
    exact = layer.weight.detach().double() / inputs.grid.spread
    damped = _damped(inputs.products, inputs.rows)
    weights = exact + torch.linalg.solve(damped, inputs.lost.T @ exact.T).T
    steps = weights.abs().amax(dim=1).clamp(min=EPSILON) / top
    whole = rounded_weights(weights, steps, inputs.products, inputs.rows, top=top)
    rounded, lost = inputs.means
    bias = exact @ (rounded + lost + inputs.grid.shift * inputs.grid.spread) - (whole * steps[:, None]) @ rounded
    if layer.bias is not None:
        bias = bias + layer.bias.detach()
    return Int8Weights(whole, steps.float(), bias.float(), inputs.grid)


def rounded_weights(weights: Tensor, steps: Tensor, products: Tensor, rows: int, *, top: int) -> Tensor:
    """`weights` float64 [n_out, n_in] rounded to multiples of `steps` float64 [n_out], int8 [n_out, n_in] of at most
    `top`.

    The weights of later inputs compensate the rounding of earlier ones, as far as the inputs correlate: `products` is
    their covariance over `rows` rows, float64 [n_in, n_in] (GPTQ, Frantar et al., ICLR 2023).
    """
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
    """A covariance over `rows` rows with its diagonal damped, so that it can be inverted."""
    damping = (DAMPING + DAMPING_OF_FEW * len(products) / rows) * products.diagonal().mean() + EPSILON**2
    return products + damping * torch.eye(len(products))


def _least_harmful(
    model: nn.Module, made: Sequence[dict[str, Int8Weights]], embed_sample: Callable[[], Vectors], share: float
) -> list[dict[str, Int8Weights]]:
    """The groups of layers with the least error per multiplication, up to `share` of all multiplications.

    The errors of groups are measured one at a time and taken to add up.
    """
    exact = embed_sample()
    sizes = [sum(own.whole.numel() for own in group.values()) for group in made]
    harms = [_harm(model, group, embed_sample, exact) / size for group, size in zip(made, sizes, strict=True)]
    chosen, left = list[dict[str, Int8Weights]](), share * sum(sizes)
    for at in np.argsort(harms, kind="stable").tolist():
        if sizes[at] <= left + 1:  # 1: the share of an integer is rounded
            chosen.append(made[at])
            left -= sizes[at]
    return chosen


def _harm(
    model: nn.Module, group: Mapping[str, Int8Weights], embed_sample: Callable[[], Vectors], exact: Vectors
) -> float:
    """The mean squared error of vectors with these layers quantised, without the error that all vectors share, which
    does not change a ranking."""
    own = {name: model.get_submodule(name) for name in group}
    for name, one in group.items():
        replace_layer(model, name, QuantisedLinear(one))
    off = embed_sample() - exact
    for name, layer in own.items():
        replace_layer(model, name, layer)
    return float((off.var(axis=0) if len(off) > 1 else off**2).sum())
