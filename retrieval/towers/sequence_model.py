"""The torch modules of the towers: the item head, and the causal transformers that read a history."""

from __future__ import annotations

import math
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from retrieval.data.timeline import GAP_BUCKETS
from retrieval.towers.item_features import ItemFeatures

IDENTITY_SPREAD = 0.02  # standard deviation of the initial identity vectors


class ItemHead(nn.Module):
    """Item vectors: a content vector of unit length, an identity vector, and a bias.

    The content vector sums projected text, price, categories and brand, and a residual per known item. The residual is
    dropped for a random share of the items in training, so that a vector from text alone stays good. The identity
    vector is a free vector per known item, of `identity` dimensions (0: none).
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
        """Content and identity vectors side by side, float [n, dim + identity].

        `text` float [n, text_dim]; `price` int64 [n] codes; `category` is all items' codes concatenated and where each
        item's begin, int64; `rows` int64 [n] rows of known items.
        """
        own = self.residual[rows]
        if self.training and self.residual_drop:
            own = own * (torch.rand(len(own), 1, device=own.device) >= self.residual_drop)
        codes, begin = category
        shared = F.embedding_bag(codes, self.category, begin, mode="mean")
        content = F.normalize(text @ self.project.T + self.price[price] + shared + own, dim=-1)
        return torch.cat([content, self.identity[rows]], dim=-1)

    def queries(self, text: Tensor) -> Tensor:
        """Query text vectors [n, text_dim] in the items' space: unit length, zero identity, [n, dim + identity]."""
        return F.pad(F.normalize(text @ self.project.T, dim=-1), (0, self.identity.shape[1]))


class Block(nn.Module):
    """One pre-norm causal transformer block with a learned attention bias per head and distance between events.

    With `gated` it is a LiGR block (Borisyuk et al. 2025): the residual branch of each half is multiplied by a learned
    gate of its input, and the feed-forward half is a SwiGLU.
    """

    def __init__(self, width: int, heads: int, dropout: float, longest: int, *, gated: bool) -> None:
        super().__init__()
        self.heads, self.dropout = heads, dropout
        slopes = 0.5 ** torch.arange(1, heads + 1, dtype=torch.float32)  # initialised as ALiBi (Press et al. 2022)
        self.distance = nn.Parameter(-slopes[:, None] * torch.arange(longest))
        self.norm_attention, self.norm_feed = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.merge = nn.Linear(width, 3 * width), nn.Linear(width, width)
        widened = [SwiGLU(width, 4 * width)] if gated else [nn.Linear(width, 4 * width), nn.GELU()]
        self.feed = nn.Sequential(*widened, nn.Dropout(dropout), nn.Linear(4 * width, width), nn.Dropout(dropout))
        self.gates = nn.ModuleList(nn.Linear(width, width) for _ in range(2)) if gated else None

    def forward(self, x: Tensor, mask: Tensor, apart: Tensor) -> Tensor:
        """The block's output, float [b, l, width].

        `x` float [b, l, width]; `mask` bool [b, 1, l, l], true where a position may attend; `apart` int64 [l, l]
        distances between positions.
        """
        b, length, width = x.shape
        q, k, v = (
            self.qkv(self.norm_attention(x)).view(b, length, 3, self.heads, width // self.heads).permute(2, 0, 3, 1, 4)
        )
        drop = self.dropout if self.training else 0.0
        bias = self.distance[:, apart][None].masked_fill(~mask, -torch.inf).to(q.dtype)
        read = F.scaled_dot_product_attention(q, k, v, attn_mask=bias, dropout_p=drop)
        merged = self.merge(read.transpose(1, 2).reshape(b, length, width))
        x = self._residual(x, F.dropout(merged, drop, self.training), 0)
        return self._residual(x, self.feed(self.norm_feed(x)), 1)

    def _residual(self, x: Tensor, more: Tensor, half: int) -> Tensor:
        return x + (more if self.gates is None else torch.sigmoid(self.gates[half](x)) * more)


class SwiGLU(nn.Module):
    """A gated linear unit with SiLU (Shazeer 2020)."""

    def __init__(self, width: int, wide: int) -> None:
        super().__init__()
        self.up, self.gate = nn.Linear(width, wide), nn.Linear(width, wide)

    def forward(self, x: Tensor) -> Tensor:
        """Float [..., width] to [..., wide]."""
        wide: Tensor = F.silu(self.gate(x)) * self.up(x)
        return wide


class Stream(nn.Module):
    """A causal transformer over event vectors, one output per position (SASRec, Kang and McAuley 2018).

    Sequences are padded at the front, so that position -1 is the newest event. Attention depends on the distance
    between events, not on absolute positions, so that a prefix in training is read as a whole history is in serving.
    With `unit`, inputs and outputs have unit length. Without, inputs are scaled by the root of their dimension, and the
    output is the last layer's normalised activation.
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
        """Outputs float [b, l, dim] of event vectors [b, l, dim] with their codes, see `HistoryBatch`."""
        read: Tensor = self.read(vectors if self.unit else vectors * math.sqrt(vectors.shape[-1]))
        x = self.dropout(read + self.kind[kinds] + self.gap[gaps])
        place = torch.arange(vectors.shape[1], device=vectors.device)
        since = place[:, None] - place[None, :]  # row minus column: positions ago, negative for the future
        itself = (since == 0)[None, None]  # padding has nothing else to attend to
        mask = ((since >= 0)[None, None] & present[:, None, None, :]) | itself
        for block in self.blocks:
            x = block(x, mask, since.clamp(min=0))
        out: Tensor = self.write(self.norm(x))
        return F.normalize(out, dim=-1) if self.unit else out


class HistoryModel(nn.Module):
    """Two transformers over one history: one reads the items' content vectors, the other their identity vectors.

    Each answers in its own part of the item space, so that an inner product with an item is the sum of two scores, the
    second scaled by `identity_scale`. Both share `layers`, `longest`, `dropout` and `gated`; the second has one head
    and is `identity` wide (0: there is none).
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
        """The outputs of both for vectors [b, l, dim + identity]: unit vectors [b, l, dim], and [b, l, identity]."""
        codes = (kinds, gaps, present)
        content = self.content(vectors[..., : self.dim], *codes)
        return content, None if self.identity is None else self.identity(vectors[..., self.dim :], *codes)

    def forward(self, vectors: Tensor, kinds: Tensor, gaps: Tensor, present: Tensor) -> Tensor:
        """User vectors per position, float [b, l, dim + identity]; inputs as in `HistoryBatch`, vectors for items."""
        content, identity = self.streams(vectors, kinds, gaps, present)
        return content if identity is None else torch.cat([content, self.identity_scale * identity], dim=-1)
