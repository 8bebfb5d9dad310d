"""A closed-form reading of histories: what follows what, with the items' texts and categories as side information.

Ridge regression of each request on the history before it, in the manner of EASE (Steck 2019), of its form with side
information (Jeunen et al. 2020) and of its session-aware form (Choi et al. 2021), cut to two factors, so that it is an
inner product like every other part of the towers. Nothing is learned by gradient; one solve takes a minute for 12,000
items.
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
from retrieval.towers.cold_start import fit_guess, guess
from retrieval.training.windows import Windows

if TYPE_CHECKING:
    from scipy.sparse import csr_array

CORE_ITEMS = 16_000  # the most taken items, among which all pairs are weighed: five square matrices of them in memory
RIDGE = 200.0  # what a weight has to be worth, in shoppers
TEXT_PAIRS = 100.0  # how many shoppers the likeness of two texts is worth at a cosine of 1
CATEGORY_PAIRS = 60.0  # the same of two items that alone make up a category
BACKWARD = 0.2  # what the pair (later, earlier) counts beside (earlier, later)
DECAY = 0.75  # of an event for each visit after its own
EXACT_SVD = 2_048  # rows up to which the factors are exact
BLOCK = 65_536  # requests counted at once


@dataclass(frozen=True)
class ItemFactors:
    """What each item says of others when it stands in a history, and what is said of it, float32 [n_items, rank].

    `from_text` float32 [text_dim + 1, 2 * rank] guesses both, `gives` first, of an item that training did not know; see
    `retrieval.cold_start`.
    """

    gives: Vectors
    takes: Vectors
    from_text: Vectors

    def louder(self, by: float) -> ItemFactors:
        """The same with everything said `by` times as loud."""
        louder, (gives, takes) = np.float32(by), np.split(self.from_text, 2, axis=1)
        return ItemFactors(self.gives * louder, self.takes, np.hstack([gives * louder, takes]))


def fit_factors(
    windows: Windows, text: Vectors, categories: CSR, *, rank: int, longest: int, device: str, seed: int
) -> ItemFactors:
    """Factors of the weights between all items, `rank` numbers an item at most.

    `text` float32 [n_items, text_dim] unit vectors, `categories` the codes of each item. Histories are read to the
    newest `longest` events. Items beyond the CORE_ITEMS most taken have the factors that their texts guess.
    """
    taken = np.bincount(windows.timeline.item[_positions(windows)[1]], minlength=len(text))[: len(text)]
    core = np.sort(np.argsort(-taken, kind="stable")[:CORE_ITEMS])
    weights = _weights(windows, core, text[core], categories.select(core), longest, device)
    gives, takes = _factors(weights, min(rank, len(core)), seed)
    from_text = fit_guess(text[core], np.hstack([gives, takes]))
    both = guess(text, from_text)
    both[core] = np.hstack([gives, takes])
    gives, takes = np.split(both, 2, axis=1)
    return ItemFactors(np.ascontiguousarray(gives), np.ascontiguousarray(takes), from_text)


def _weights(
    windows: Windows, core: NDArray[np.int64], text: Vectors, categories: CSR, longest: int, device: str
) -> Tensor:
    """Weight of each core item (row) for each other (column), [n, n]; an item says nothing of itself."""
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
    """How often each core item (column) was taken after each other (row), older events counting less; and how many
    shoppers have both in their training events. float32 [n, n] each."""
    timeline, n = windows.timeline, len(core)
    at = np.full(int(max(core.max(initial=0), timeline.item.max(initial=0))) + 2, -1, np.int64)
    at[core] = np.arange(n)  # the last one stays -1: an event of no item, which is a query's
    visit = _visits(timeline)
    follows = np.zeros((n, n), np.float32)
    for start in range(0, len(windows.asker), BLOCK):
        part = np.arange(start, min(start + BLOCK, len(windows.asker)))
        end = windows.asked_at[part]
        begin = np.maximum(timeline.offsets[windows.asker[part]], end - longest)
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
    """A float32 matrix of the given cells, those of column -1 left out, equal ones summed."""
    from scipy.sparse import csr_array

    kept = columns >= 0
    return csr_array((values[kept].astype(np.float32), (lines[kept], columns[kept])), shape=shape)


def _positions(windows: Windows) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """(user, timeline position) of every training event that is an item's."""
    line, position = ranges(windows.start, windows.stop)
    items = windows.timeline.item[position] >= 0
    return windows.user[line][items], position[items]


def _visits(timeline: Timeline) -> NDArray[np.int64]:
    """The number of the visit of each position, a new one where an hour has passed since the position before."""
    later = np.diff(timeline.time, prepend=timeline.time[:1]) >= HOUR
    return np.cumsum(later).astype(np.int64)


def _shared_categories(categories: CSR) -> NDArray[np.float32]:
    """CATEGORY_PAIRS for every category that two items share, shared out among the items that have it [n, n]."""
    n, names = len(categories.indptr) - 1, int(categories.rows.max(initial=-1)) + 1
    sizes = np.bincount(categories.rows, minlength=names)
    belongs = _sparse(categories.owners, categories.rows, 1 / np.sqrt(sizes[categories.rows]), (n, names))
    shared: NDArray[np.float32] = (CATEGORY_PAIRS * (belongs @ belongs.T)).toarray().astype(np.float32)
    return shared


def _factors(weights: Tensor, rank: int, seed: int) -> tuple[Vectors, Vectors]:
    """The two factors of the best approximation of a rank, float32 [n, rank] each."""
    if len(weights) <= EXACT_SVD:
        left, sizes, right = torch.linalg.svd(weights)
        right = right.T
    else:
        with torch.random.fork_rng(devices=()):
            torch.manual_seed(seed)
            left, sizes, right = torch.svd_lowrank(weights, q=min(len(weights), rank + 48), niter=2)
    root = sizes[:rank].sqrt()
    return (left[:, :rank] * root).cpu().numpy(), (right[:, :rank] * root).cpu().numpy()
