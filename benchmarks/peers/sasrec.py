"""SASRec of item ids (Kang and McAuley, ICDM 2018).

Trained with the softmax over all items, or over sampled ones in a large catalogue, which makes it a strong peer
(Klenitskiy and Vasilev, RecSys 2023; eSASRec, arXiv 2508.06450).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from benchmarks.peers.sequences import Rows, Windows
from retrieval.encoders.runtime import training_bf16
from retrieval.progress import ProgressMeter
from retrieval.topk import Vectors

SPREAD = 0.02  # standard deviation of the initial embeddings


@dataclass(frozen=True, kw_only=True)
class SasRecConfig:
    """Sizes and training; the defaults were the best on Amazon Beauty."""

    width: int = 128
    blocks: int = 1
    heads: int = 1
    longest: int = 20
    dropout: float = 0.5
    learning_rate: float = 1e-3
    batch: int = 128  # windows
    epochs: int = 40
    patience: int = 5  # epochs without improvement on the validation fold
    full_softmax_items: int = 20_000  # larger catalogues use the sampled softmax
    negatives: int = 2_048  # sampled uniformly, shared by a batch


class Block(nn.Module):
    """One pre-norm causal transformer block whose feed-forward part is as wide as its input."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.norm_attention, self.norm_feed = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.merge = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.feed = nn.Sequential(
            nn.Linear(width, width), nn.ReLU(), nn.Dropout(dropout), nn.Linear(width, width), nn.Dropout(dropout)
        )

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """[b, l, width] and a bool mask [b, 1, l, l], true where a position may attend -> [b, l, width]."""
        b, length, width = x.shape
        q, k, v = self.qkv(self.norm_attention(x)).view(b, length, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        drop = self.dropout if self.training else 0.0
        read = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, dropout_p=drop)
        x = x + F.dropout(self.merge(read.transpose(1, 2).reshape(b, length, width)), drop)
        fed: Tensor = self.feed(self.norm_feed(x))
        return x + fed


class SasRec(nn.Module):
    """Item sequences to one vector per position, whose inner products with the item embeddings score the next item."""

    def __init__(self, n_items: int, config: SasRecConfig) -> None:
        super().__init__()
        self.item = nn.Parameter(torch.randn(n_items, config.width) * SPREAD)
        self.place = nn.Parameter(torch.randn(config.longest, config.width) * SPREAD)
        self.drop = nn.Dropout(config.dropout)
        self.blocks = nn.ModuleList(Block(config.width, config.heads, config.dropout) for _ in range(config.blocks))
        self.norm = nn.LayerNorm(config.width)

    def forward(self, items: Tensor) -> Tensor:
        """int64 [b, longest], -1 padding at the front -> [b, longest, width]."""
        present, length = items >= 0, items.shape[1]
        x = F.embedding(items.clamp(min=0), self.item) * self.item.shape[1] ** 0.5 + self.place
        x = self.drop(x) * present[..., None]
        places = torch.arange(length, device=items.device)
        causal, itself = places[:, None] >= places, places[:, None] == places
        mask = (causal & present[:, None, None, :]) | itself  # padding attends to itself, since softmax needs one entry
        for block in self.blocks:
            x = block(x, mask)
        out: Tensor = self.norm(x)
        return out


class TrainedSasRec(NamedTuple):
    """A model at its best epoch."""

    model: SasRec
    epoch: int  # from 1; 0: untrained


def train_sasrec(
    data: Windows,
    n_items: int,
    config: SasRecConfig,
    *,
    validate: Callable[[SasRec], float],
    device: str,
    seed: int,
) -> TrainedSasRec:
    """Trains until `validate`, called after each epoch, has not improved for `patience` epochs.

    torch's global random state is left unchanged.
    """
    rng = np.random.default_rng(seed)
    with torch.random.fork_rng(devices=range(torch.cuda.device_count()) if device == "cuda" else ()):
        torch.manual_seed(seed)
        model = SasRec(n_items, config).to(device)
        optimiser = torch.optim.AdamW(model.parameters(), lr=config.learning_rate, fused=True)
        meter = ProgressMeter(config.epochs * len(data), "sasrec_ids", unit="windows")
        best, best_epoch, kept = -np.inf, 0, model.state_dict()
        for epoch in range(1, config.epochs + 1):
            model.train()
            for part in _batches(len(data), config.batch, rng):
                loss = _step(model, optimiser, Windows(data.items[part], data.targets[part]), config, device)
                meter.advance(len(part), loss=loss)
            figure = validate(model.eval())
            meter.advance(0, valid=figure)
            if figure > best:
                best, best_epoch = figure, epoch
                kept = {name: value.detach().clone() for name, value in model.state_dict().items()}
            elif epoch - best_epoch >= config.patience:
                break
        meter.close()
    model.load_state_dict(kept)
    return TrainedSasRec(model.eval(), best_epoch)


def user_vectors(model: SasRec, histories: Rows) -> Vectors:
    """The user vectors of histories int64 [n, longest], float32 [n, width]; zero for an empty history."""
    device, found = model.item.device, [np.empty((0, model.item.shape[1]), np.float32)]
    with torch.inference_mode():
        for start in range(0, len(histories), 1024):
            part = torch.from_numpy(histories[start : start + 1024]).to(device)
            newest = model(part)[:, -1] * (part[:, -1:] >= 0)
            found.append(newest.cpu().numpy())
    return np.concatenate(found)


def item_vectors(model: SasRec) -> Vectors:
    """The item embeddings, float32 [n_items, width]."""
    vectors: Vectors = model.item.detach().cpu().numpy()
    return vectors


def _batches(n: int, size: int, rng: np.random.Generator) -> Iterator[Rows]:
    order = rng.permutation(n)
    yield from (order[start : start + size] for start in range(0, n, size))


def _step(model: SasRec, optimiser: torch.optim.Optimizer, data: Windows, config: SasRecConfig, device: str) -> float:
    items, targets = (torch.from_numpy(column).to(device) for column in data)
    known = targets >= 0
    with torch.autocast(device, torch.bfloat16, enabled=training_bf16(device)):
        loss = _loss(model(items)[known], model.item, targets[known], config)
    optimiser.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    optimiser.step()
    return float(loss.detach())


def _loss(users: Tensor, items: Tensor, targets: Tensor, config: SasRecConfig) -> Tensor:
    """Softmax over the catalogue, or over the target and the batch's uniform samples other than it."""
    if len(items) <= config.full_softmax_items:
        return F.cross_entropy(users @ items.T, targets)
    drawn = torch.randint(len(items), (config.negatives,), device=items.device)
    own = (users * items[targets]).sum(dim=1, keepdim=True)
    others = (users @ items[drawn].T).float().masked_fill(drawn == targets[:, None], -torch.inf)
    return F.cross_entropy(torch.cat([own.float(), others], dim=1), torch.zeros_like(targets))
