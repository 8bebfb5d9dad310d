"""The trainable parts beside the text: the item head, and the causal transformers that read a history."""

from __future__ import annotations

import math
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from retrieval.data.timeline import GAP_BUCKETS
from retrieval.towers.item_features import ItemFeatures

IDENTITY_SPREAD = 0.02  # standard deviation of the identity vectors when training begins


class ItemHead(nn.Module):
    """What an item is, as a unit vector (text, price, categories and brand, an optional residual per known item),
    beside which item it is, as a free vector per known item; and a bias.

    The residual is dropped for a random share of items in training, so that a vector from text alone stays good.
    `identity` is the width of the free vectors, 0 for none.
    """

    def __init__(
        self, projection: Tensor, features: ItemFeatures, n_items: int, *, identity: int, residual_drop: float
    ) -> None:
        super().__init__()
        dim = len(projection)
        self.project = nn.Parameter(projection.clone())  # [dim, text_dim]
        self.price = nn.Parameter(torch.zeros(features.n_prices, dim))
        self.category = nn.Parameter(torch.zeros(max(1, len(features.categories)), dim))
        self.residual = nn.Parameter(torch.zeros(n_items, dim))
        self.identity = nn.Parameter(torch.randn(n_items, identity) * IDENTITY_SPREAD)
        self.bias = nn.Parameter(torch.zeros(n_items))
        self.residual_drop = residual_drop

    def forward(self, text: Tensor, price: Tensor, category: tuple[Tensor, Tensor], rows: Tensor) -> Tensor:
        """Text [n, text_dim], price codes int64 [n], category codes end to end with where each item's begin, rows of
        the known items int64 [n] -> unit vectors and identity vectors side by side [n, dim + identity]."""
        own = self.residual[rows]
        if self.training and self.residual_drop:
            own = own * (torch.rand(len(own), 1, device=own.device) >= self.residual_drop)
        codes, begin = category
        shared = F.embedding_bag(codes, self.category, begin, mode="mean")
        content = F.normalize(text @ self.project.T + self.price[price] + shared + own, dim=-1)
        return torch.cat([content, self.identity[rows]], dim=-1)

    def queries(self, text: Tensor) -> Tensor:
        """Query text vectors [n, text_dim] as items are, unit length and no identity [n, dim + identity]."""
        return F.pad(F.normalize(text @ self.project.T, dim=-1), (0, self.identity.shape[1]))


class Block(nn.Module):
    """One pre-norm causal transformer block; each head has a learned bias for each distance between two events.

    With `gated` it is one of LiGR (Borisyuk et al. 2025): what each half adds is scaled by a learned gate of its input,
    and the feed-forward half is SwiGLU.
    """

    def __init__(self, width: int, heads: int, dropout: float, longest: int, *, gated: bool) -> None:
        super().__init__()
        self.heads, self.dropout = heads, dropout
        slopes = 0.5 ** torch.arange(1, heads + 1, dtype=torch.float32)  # begins as ALiBi (Press et al. 2022)
        self.distance = nn.Parameter(-slopes[:, None] * torch.arange(longest))
        self.norm_attention, self.norm_feed = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.merge = nn.Linear(width, 3 * width), nn.Linear(width, width)
        widened = [SwiGLU(width, 4 * width)] if gated else [nn.Linear(width, 4 * width), nn.GELU()]
        self.feed = nn.Sequential(*widened, nn.Dropout(dropout), nn.Linear(4 * width, width), nn.Dropout(dropout))
        self.gates = nn.ModuleList(nn.Linear(width, width) for _ in range(2)) if gated else None

    def forward(self, x: Tensor, mask: Tensor, apart: Tensor) -> Tensor:
        """[b, l, width], bool [b, 1, l, l], true where a position may look, and int64 distances [l, l] ->
        [b, l, width]."""
        b, length, width = x.shape
        q, k, v = (
            self.qkv(self.norm_attention(x)).view(b, length, 3, self.heads, width // self.heads).permute(2, 0, 3, 1, 4)
        )
        drop = self.dropout if self.training else 0.0
        bias = self.distance[:, apart][None].masked_fill(~mask, -torch.inf).to(q.dtype)
        read = F.scaled_dot_product_attention(q, k, v, attn_mask=bias, dropout_p=drop)
        x = self._added(
            x, F.dropout(self.merge(read.transpose(1, 2).reshape(b, length, width)), drop, self.training), 0
        )
        return self._added(x, self.feed(self.norm_feed(x)), 1)

    def _added(self, x: Tensor, more: Tensor, half: int) -> Tensor:
        return x + (more if self.gates is None else torch.sigmoid(self.gates[half](x)) * more)


class SwiGLU(nn.Module):
    """A gated linear layer (Shazeer 2020)."""

    def __init__(self, width: int, wide: int) -> None:
        super().__init__()
        self.up, self.gate = nn.Linear(width, wide), nn.Linear(width, wide)

    def forward(self, x: Tensor) -> Tensor:
        """[..., width] -> [..., wide]."""
        wide: Tensor = F.silu(self.gate(x)) * self.up(x)
        return wide


class Stream(nn.Module):
    """Recent events to one vector a position (SASRec, Kang and McAuley 2018, over vectors).

    Sequences are padded at the front, so that position -1 is the newest event. Only the distance between events is
    told apart, never their absolute place: a prefix in training is read just as a whole history is when serving.
    With `unit` both sides have unit length. Without, vectors are free: they are read scaled by the root of their
    dimensions, and the normed last layer is the answer.
    """

    def __init__(
        self,
        dim: int,
        n_kinds: int,
        *,
        unit: bool,
        width: int,
        layers: int,
        heads: int,
        dropout: float,
        longest: int,
        gated: bool,
    ) -> None:
        super().__init__()
        self.unit = unit
        self.read = nn.Linear(dim, width)
        self.kind = nn.Parameter(torch.zeros(n_kinds + 1, width))  # code 0: a kind not seen in training
        self.gap = nn.Parameter(torch.zeros(GAP_BUCKETS, width))
        self.blocks = nn.ModuleList(Block(width, heads, dropout, longest, gated=gated) for _ in range(layers))
        self.norm = nn.LayerNorm(width)
        self.write = nn.Linear(width, dim) if unit else nn.Identity()
        self.dropout = nn.Dropout(dropout)
        if not unit:
            nn.init.eye_(self.read.weight)
            nn.init.zeros_(self.read.bias)

    def forward(self, vectors: Tensor, kinds: Tensor, gaps: Tensor, present: Tensor) -> Tensor:
        """[b, l, dim], int64 [b, l], int64 buckets [b, l], bool [b, l] -> [b, l, dim]."""
        read: Tensor = self.read(vectors if self.unit else vectors * math.sqrt(vectors.shape[-1]))
        x = self.dropout(read + self.kind[kinds] + self.gap[gaps])
        place = torch.arange(vectors.shape[1], device=vectors.device)
        since = place[:, None] - place[None, :]  # row minus column: how long ago, below 0 for what is yet to come
        mask = ((since >= 0)[None, None] & present[:, None, None, :]) | (since == 0)[None, None]  # padding reads itself
        for block in self.blocks:
            x = block(x, mask, since.clamp(min=0))
        out: Tensor = self.write(self.norm(x))
        return F.normalize(out, dim=-1) if self.unit else out


class HistoryModel(nn.Module):
    """Two readings of one history: of what its items are, and of which items they are.

    Each stream reads its own part of the item vectors and answers in it, so that an inner product is the sum of two
    scores; the second is scaled by `identity_scale`. `layers`, `longest`, `dropout` and `gated` are those of both; the
    second is `identity` wide and has one head.
    """

    def __init__(
        self,
        dim: int,
        n_kinds: int,
        *,
        identity: int,
        layers: int,
        width: int,
        heads: int,
        dropout: float,
        longest: int,
        gated: bool,
    ) -> None:
        super().__init__()
        self.dim, self.longest = dim, longest
        stream = partial(Stream, n_kinds=n_kinds, layers=layers, dropout=dropout, longest=longest, gated=gated)
        self.content = stream(dim, unit=True, width=width, heads=heads)
        self.identity = stream(identity, unit=False, width=identity, heads=1) if identity else None
        self.identity_scale: Tensor
        self.register_buffer("identity_scale", torch.ones(()))

    def streams(self, vectors: Tensor, kinds: Tensor, gaps: Tensor, present: Tensor) -> tuple[Tensor, Tensor | None]:
        """What each stream makes of [b, l, dim + identity]: unit vectors [b, l, dim] and [b, l, identity]."""
        codes = (kinds, gaps, present)
        content = self.content(vectors[..., : self.dim], *codes)
        return content, None if self.identity is None else self.identity(vectors[..., self.dim :], *codes)

    def forward(self, vectors: Tensor, kinds: Tensor, gaps: Tensor, present: Tensor) -> Tensor:
        """[b, l, dim + identity], int64 [b, l], int64 buckets [b, l], bool [b, l] -> [b, l, dim + identity]."""
        content, identity = self.streams(vectors, kinds, gaps, present)
        return content if identity is None else torch.cat([content, self.identity_scale * identity], dim=-1)
