"""Trains the MLP kind with torch: several seeds at once, softmax cross-entropy within lists, AdamW, early stopping."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from ranking.feature_ranker.inputs import Inputs
from ranking.feature_ranker.lists import TrainingLists
from ranking.feature_ranker.mlp import MLPRanker
from ranking.training.feature_ranker.listwise import base_weight

HIDDEN = 64
SEEDS = 3  # networks whose mean is the ranker
BATCH = 64  # lists of one step
LEARNING_RATE = 2e-3
WEIGHT_DECAY = 0.5
DROPOUT = 0.15  # of hidden units
MAX_EPOCHS, PATIENCE = 40, 3  # epochs in all, and in a row without a new best, after which training ends
EPOCHS = 8  # where nothing is validated


class _Network(NamedTuple):
    """The networks of all seeds side by side: a hidden unit belongs to one seed, and so do its weights."""

    incoming: Tensor  # float [width, seeds * HIDDEN]
    bias: Tensor  # float [seeds * HIDDEN]
    outgoing: Tensor  # float [seeds, HIDDEN]

    def __call__(self, inputs: Tensor, kept: Tensor | None = None) -> Tensor:
        """inputs float [m, width]; `kept` float [m, seeds * HIDDEN] multiplies hidden units -> float [m, seeds]."""
        hidden = functional.silu(torch.addmm(self.bias, inputs, self.incoming))
        if kept is not None:
            hidden = hidden * kept
        return torch.einsum("msh,sh->ms", hidden.view(len(inputs), *self.outgoing.shape), self.outgoing)


@dataclass(frozen=True)
class _Data:
    """Lists as tensors: inputs float [n_pairs, width], offset float [n_pairs], target float [n_pairs]."""

    inputs: Tensor
    offset: Tensor
    target: Tensor
    indptr: NDArray[np.int64]

    @property
    def n_lists(self) -> int:
        """The number of lists."""
        return len(self.indptr) - 1


def fit_mlp(
    lists: TrainingLists,
    valid: TrainingLists | None = None,
    *,
    seed: int = 0,
    epochs: int = EPOCHS,
    seeds: int = SEEDS,
    say: Callable[[str], None] | None = None,
) -> tuple[MLPRanker, int]:
    """The mean of `seeds` networks trained on `lists`, and the number of epochs.

    With `valid`, that of the highest nDCG@10 of the mean on it; else `epochs`. The base score is added with the weight
    that it has alone, and the last layer starts from 0, so that the order before is what training starts from.
    """
    names, (data, inputs, weight) = lists.names, _data(lists.informative().canonical())
    network, generator = _initial(inputs.names(names), seed, seeds), torch.Generator().manual_seed(seed)
    if not data.n_lists:
        return _ranker(names, inputs, network, weight), 0
    optimiser = torch.optim.AdamW(
        [
            {"params": [network.incoming, network.outgoing], "weight_decay": WEIGHT_DECAY},
            {"params": [network.bias], "weight_decay": 0.0},
        ],
        lr=LEARNING_RATE,
    )
    best, best_ndcg, best_epoch = _ranker(names, inputs, network, weight), -1.0, 0
    checked = None if valid is None else valid.informative().with_columns(names)
    for epoch in range(1, (epochs if valid is None else MAX_EPOCHS) + 1):
        for batch in _batches(data.n_lists, generator):
            _step(network, optimiser, data, batch, generator)
        if checked is None:
            continue
        ranker = _ranker(names, inputs, network, weight)
        ndcg = float(checked.ndcg(ranker.score(checked.features, checked.base)).mean()) if checked.n_lists else 0.0
        if say is not None:
            say(f"mlp: epoch {epoch}, nDCG@10 {ndcg:.4f}")
        if ndcg > best_ndcg:
            best, best_ndcg, best_epoch = ranker, ndcg, epoch
        elif epoch - best_epoch >= PATIENCE:
            break
    if checked is None:
        return _ranker(names, inputs, network, weight), epochs
    return best, best_epoch


def _initial(inputs: Sequence[str], seed: int, seeds: int) -> _Network:
    """First layers of variance 1 / width, drawn by each input's name, so that an input more leaves others' alone."""
    units = seeds * HIDDEN
    incoming = np.empty((len(inputs), units), np.float32)
    for row, name in zip(incoming, inputs, strict=True):
        row[:] = np.random.default_rng([seed, zlib.crc32(name.encode())]).normal(0, 1, units)
    incoming /= np.sqrt(max(len(inputs), 1))
    layers = torch.from_numpy(incoming), torch.zeros(units), torch.zeros(seeds, HIDDEN)
    return _Network(*(layer.requires_grad_() for layer in layers))


def _data(lists: TrainingLists) -> tuple[_Data, Inputs, float]:
    """Informative lists as tensors, how their inputs are made, and the weight of the base."""
    inputs, weight = Inputs.of(lists.features), base_weight(lists)
    wanted = np.maximum(lists.labels, 0)
    target = wanted / np.bincount(lists.owners, wanted, lists.n_lists)[lists.owners]
    data = _Data(
        torch.from_numpy(inputs(lists.features)),
        torch.from_numpy(lists.base * np.float32(weight)),
        torch.from_numpy(target.astype(np.float32)),
        lists.indptr,
    )
    return data, inputs, weight


def _batches(n_lists: int, generator: torch.Generator) -> Iterator[NDArray[np.int64]]:
    order = torch.randperm(n_lists, generator=generator).numpy()
    for start in range(0, n_lists, BATCH):
        yield order[start : start + BATCH]


def _step(
    network: _Network,
    optimiser: torch.optim.Optimizer,
    data: _Data,
    batch: NDArray[np.int64],
    generator: torch.Generator,
) -> None:
    starts, sizes = data.indptr[batch], data.indptr[batch + 1] - data.indptr[batch]
    line = np.repeat(np.arange(len(batch)), sizes)
    column = np.arange(len(line)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    pairs, place = torch.from_numpy(starts[line] + column), (torch.from_numpy(line), torch.from_numpy(column))
    kept = torch.empty(len(batch), len(network.bias)).bernoulli_(1 - DROPOUT, generator=generator) / (1 - DROPOUT)
    scores = network(data.inputs[pairs], kept[place[0]]) + data.offset[pairs, None]
    padded = torch.full((len(batch), int(sizes.max()), scores.shape[1]), -torch.inf).index_put(place, scores)
    # each network's loss depends on its own weights alone, so that the sum trains them as if one by one
    loss = -(padded.log_softmax(dim=1)[place] * data.target[pairs, None]).sum() / len(batch)
    optimiser.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    optimiser.step()


def _ranker(names: tuple[str, ...], inputs: Inputs, network: _Network, weight: float) -> MLPRanker:
    incoming, bias, outgoing = (layer.detach().numpy().copy() for layer in network)
    outgoing /= np.float32(len(outgoing))  # the mean of the networks
    return MLPRanker(names, inputs, incoming, bias, outgoing.ravel(), weight)
