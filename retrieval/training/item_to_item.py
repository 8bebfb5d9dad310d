"""The linear part of the towers: an item-to-item regression in closed form.

Ridge regression of each request's items on the history before it, after EASE (Steck 2019), with texts and categories as
side information (Jeunen et al. 2020) and decay by visit (Choi et al. 2021). The item-to-item weights are factorised to
a low rank, so that a score is an inner product as in every other part of the towers. Nothing is learned by gradient
descent; one solve takes a minute for 12,000 items.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from retrieval.data.time_units import HOUR
from retrieval.data.timeline import Timeline
from retrieval.topk import CSR, Vectors, ranges
from retrieval.towers.cold_start import apply_linear_map, fit_linear_map
from retrieval.training.windows import Windows

if TYPE_CHECKING:
    from scipy.sparse import csr_array

CORE_ITEMS = 16_000  # the most frequent items, which are solved for: five square matrices of them are in memory
RIDGE = 200.0  # regularisation, in shoppers
TEXT_PAIRS = 100.0  # co-occurring shoppers that two texts of cosine 1 are worth
CATEGORY_PAIRS = 60.0  # the same for two items that share a category with no other
BACKWARD = 0.2  # weight of the pair (later, earlier) relative to (earlier, later)
DECAY = 0.75  # of an event's weight for each visit after its own
EXACT_SVD = 2_048  # items up to which the factorisation is exact
BLOCK = 65_536  # requests counted at once


@dataclass(frozen=True)
class ItemFactors:
    """Low-rank factors of the item-to-item weights, float32 [n_items, rank] each.

    The weight of history item i for candidate j is `source[i] @ target[j]`. `from_text` float32 [text_dim + 1,
    2 * rank] predicts both, `source` first, for an item that training did not know; see `retrieval.towers.cold_start`.
    """

    source: Vectors
    target: Vectors
    from_text: Vectors

    def scaled(self, by: float) -> ItemFactors:
        """The same factors with all weights multiplied by `by`."""
        factor, (source, target) = np.float32(by), np.split(self.from_text, 2, axis=1)
        return ItemFactors(self.source * factor, self.target, np.hstack([source * factor, target]))


def fit_factors(
    windows: Windows, text: Vectors, categories: CSR, *, rank: int, longest: int, device: str, seed: int
) -> ItemFactors:
    """Item-to-item factors of at most `rank` dimensions.

    `text` float32 [n_items, text_dim] are unit vectors, `categories` the category codes of each item. Of a history the
    newest `longest` events are read. Items beyond the CORE_ITEMS most frequent get factors predicted from their texts.
    """
    taken = np.bincount(windows.timeline.item[_positions(windows)[1]], minlength=len(text))[: len(text)]
    core = np.sort(np.argsort(-taken, kind="stable")[:CORE_ITEMS])
    weights = _weights(windows, core, text[core], categories.select(core), longest, device)
    source, target = _factors(weights, min(rank, len(core)), seed)
    from_text = fit_linear_map(text[core], np.hstack([source, target]))
    both = apply_linear_map(text, from_text)
    both[core] = np.hstack([source, target])
    source, target = np.split(both, 2, axis=1)
    return ItemFactors(np.ascontiguousarray(source), np.ascontiguousarray(target), from_text)


def _weights(
    windows: Windows, core: NDArray[np.int64], text: Vectors, categories: CSR, longest: int, device: str
) -> Tensor:
    """Weight of each core item (row) for each other (column), float32 [n, n] on `device`, with a zero diagonal."""
    follows, gram = (torch.from_numpy(counts).to(device) for counts in _counts(windows, core, longest))
    near, wanted = torch.from_numpy(text).to(device), torch.from_numpy(_shared_categories(categories)).to(device)
    wanted.addmm_(near, near.T, alpha=TEXT_PAIRS)
    gram += wanted
    gram.diagonal().add_(RIDGE)
    wanted.add_(follows).add_(follows.T, alpha=BACKWARD)
    del follows
    lower = torch.linalg.cholesky(gram)
    del gram
    inverse = torch.cholesky_inverse(lower)
    del lower
    weights = inverse @ wanted
    del wanted
    weights -= inverse * (weights.diagonal() / inverse.diagonal())[None, :]
    return weights.fill_diagonal_(0)


def _counts(windows: Windows, core: NDArray[np.int64], longest: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """How often each core item (column) was a target after each other (row), older events decayed; and how many
    shoppers have both in their training events. float32 [n, n] each."""
    timeline, n = windows.timeline, len(core)
    at = np.full(int(max(core.max(initial=0), timeline.item.max(initial=0))) + 2, -1, np.int64)
    at[core] = np.arange(n)  # the last one stays -1, for events without an item, which are queries
    visit = _visits(timeline)
    follows = np.zeros((n, n), np.float32)
    for start in range(0, len(windows.request_user), BLOCK):
        part = np.arange(start, min(start + BLOCK, len(windows.request_user)))
        end = windows.request_position[part]
        begin = np.maximum(timeline.offsets[windows.request_user[part]], end - longest)
        line, position = ranges(begin, end)
        weight = DECAY ** (visit[end - 1][line] - visit[position])
        sources = _sparse(line, at[timeline.item[position]], weight, (len(part), n))
        taken = windows.requests.select(part)
        targets = _sparse(taken.owners, at[taken.rows], np.ones(len(taken.rows)), (len(part), n))
        follows += (sources.T @ targets).toarray()
    user, position = _positions(windows)
    events = _sparse(user, at[timeline.item[position]], np.ones(len(user)), (len(timeline.offsets) - 1, n))
    events.data[:] = 1
    np.fill_diagonal(follows, 0)
    return follows, (events.T @ events).toarray()


def _sparse(
    lines: NDArray[np.integer], columns: NDArray[np.integer], values: NDArray[np.floating], shape: tuple[int, int]
) -> csr_array:
    """A sparse float32 matrix of the given cells; column -1 is left out, repeated cells are summed."""
    from scipy.sparse import csr_array

    kept = columns >= 0
    return csr_array((values[kept].astype(np.float32), (lines[kept], columns[kept])), shape=shape)


def _positions(windows: Windows) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """(user, timeline position) of every training event with an item, int64 [n] each."""
    line, position = ranges(windows.start, windows.stop)
    items = windows.timeline.item[position] >= 0
    return windows.user[line][items], position[items]


def _visits(timeline: Timeline) -> NDArray[np.int64]:
    """The visit number of each timeline position, int64 [n]; a visit begins after an hour without events."""
    later = np.diff(timeline.time, prepend=timeline.time[:1]) >= HOUR
    return np.cumsum(later).astype(np.int64)


def _shared_categories(categories: CSR) -> NDArray[np.float32]:
    """Similarity of items by category, float32 [n, n]: CATEGORY_PAIRS over its size for each category shared."""
    n, names = len(categories.indptr) - 1, int(categories.rows.max(initial=-1)) + 1
    sizes = np.bincount(categories.rows, minlength=names)
    belongs = _sparse(categories.owners, categories.rows, 1 / np.sqrt(sizes[categories.rows]), (n, names))
    shared: NDArray[np.float32] = (CATEGORY_PAIRS * (belongs @ belongs.T)).toarray().astype(np.float32)
    return shared


def _factors(weights: Tensor, rank: int, seed: int) -> tuple[Vectors, Vectors]:
    """Source and target factors of the best approximation of that rank, float32 [n, rank] each."""
    if len(weights) <= EXACT_SVD:
        left, sizes, right = torch.linalg.svd(weights)
        right = right.T
    else:
        with torch.random.fork_rng(devices=()):
            torch.manual_seed(seed)
            left, sizes, right = torch.svd_lowrank(weights, q=min(len(weights), rank + 48), niter=2)
    root = sizes[:rank].sqrt()
    return (left[:, :rank] * root).cpu().numpy(), (right[:, :rank] * root).cpu().numpy()
