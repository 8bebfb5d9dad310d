"""What goes with the shopper's last items: co-occurrence, succession, and the cosine of the towers' parts."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ranking.features.facts import ShopFacts
from ranking.features.grouped import Numbers
from ranking.features.registry import Feature, FeatureGroup, Values, register_group
from ranking.features.shortlists import Shortlists
from retrieval.topk import ranges

if TYPE_CHECKING:
    from scipy.sparse import csr_array

LAST = (1, 3, 10)  # newest items
SIMILARITIES = {"together": "co-occurrence with", "after": "how often it came right after"}
COSINES = ("content", "identity")
NO_HISTORY = "the shopper has no event"
BLOCK = 256  # requests whose vectors are multiplied at once


def newest_items(shortlists: Shortlists, n_items: int, most: int) -> NDArray[np.int64]:
    """The newest items of each shopper that the shop's matrices know, int64 [n, most], newest first; -1 for none."""
    items = shortlists.events.items
    at = items.indptr[1:, None] - 1 - np.arange(most)
    there = at >= items.indptr[:-1, None]
    found = np.where(there, np.append(items.rows, -1)[np.where(there, at, -1)], -1)
    return np.where(found < n_items, found, -1)


def _together(shortlists: Shortlists, facts: ShopFacts) -> Values:
    found: dict[str, Numbers] = {}
    for name in SIMILARITIES:
        matrix = facts.similar(name)
        if matrix is None:
            continue
        newest = newest_items(shortlists, matrix.shape[0], max(LAST))
        values = similarities(matrix, newest, shortlists.rows)  # [n, most, k]
        for last in LAST:
            part = values[:, :last]
            found[f"{name}_sum_{last}"] = np.log1p(part.sum(axis=1))
            if last > 1:
                found[f"{name}_max_{last}"] = np.log1p(part.max(axis=1))
    return found


def similarities(matrix: csr_array, newest: NDArray[np.int64], rows: NDArray[np.int64]) -> NDArray[np.float32]:
    """The entry of each (newest item, candidate), float32 [n, most, k], of a sparse matrix with ascending columns."""
    n, most = newest.shape
    flat = newest.ravel()
    known = np.flatnonzero(flat >= 0)
    begins, ends = matrix.indptr[flat[known]].astype(np.int64), matrix.indptr[flat[known] + 1].astype(np.int64)
    owner, at = ranges(begins, ends)
    span = matrix.shape[1] + 1
    keys = known[owner] * span + matrix.indices[at]
    values = matrix.data[at]
    if not len(keys):
        return np.zeros((n, most, rows.shape[1]), np.float32)
    candidates = np.where((rows >= 0) & (rows < matrix.shape[1]), rows, matrix.shape[1])
    wanted = (np.arange(n * most) * span).reshape(n, most, 1) + candidates[:, None, :]
    place = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
    return np.where(keys[place] == wanted, values[place], np.float32(0)).astype(np.float32)


def _cosines(shortlists: Shortlists, facts: ShopFacts) -> Values:
    newest = newest_items(shortlists, facts.n_items, max(LAST))
    parts = [name for name in COSINES if name in facts.tower_parts]
    blocks = [_cosines_of(newest[part], shortlists.rows[part], facts, parts) for part in _blocks(len(newest))]
    return {name: np.concatenate([block[name] for block in blocks]) for name in (blocks[0] if blocks else ())}


def _cosines_of(
    newest: NDArray[np.int64], rows: NDArray[np.int64], facts: ShopFacts, parts: list[str]
) -> dict[str, Numbers]:
    theirs = facts.vectors_at(np.maximum(rows, 0).ravel()).reshape(*rows.shape, -1)
    own = facts.vectors_at(np.maximum(newest, 0).ravel()).reshape(*newest.shape, -1)
    missing = (newest < 0)[:, None, :]
    found: dict[str, Numbers] = {}
    for name in parts:
        part = facts.tower_parts[name]
        left, right = theirs[:, :, part], own[:, :, part]
        product = left @ right.transpose(0, 2, 1)  # [n, k, most]
        product /= np.maximum(_length(left)[:, :, None] * _length(right)[:, None, :], 1e-9)
        for last in LAST:
            counted = ~missing[:, :, :last]
            known = counted.any(axis=2)
            values = np.where(counted, product[:, :, :last], 0.0)
            mean = values.sum(axis=2) / np.maximum(counted.sum(axis=2), 1)
            found[f"{name}_cosine_mean_{last}"] = np.where(known, mean, np.nan)
            if last > 1:
                highest = np.where(counted, product[:, :, :last], -np.inf).max(axis=2)
                found[f"{name}_cosine_max_{last}"] = np.where(known, highest, np.nan)
    return found


def _length(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    length: NDArray[np.float32] = np.sqrt(np.einsum("...d,...d->...", vectors, vectors))
    return length


def _blocks(n: int) -> Iterator[slice]:
    return (slice(start, start + BLOCK) for start in range(0, max(n, 1), BLOCK))


def _names(kind: str, about: str, missing: str) -> Iterator[Feature]:
    first = "sum" if kind in SIMILARITIES else "cosine_mean"
    for last in LAST:
        yield Feature(f"{kind}_{first}_{last}", "similarity", f"{about} the last {last} items", missing)
        if last > 1:
            largest = first.replace("sum", "max").replace("mean", "max")
            yield Feature(f"{kind}_{largest}_{last}", "similarity", f"largest {about} the last {last}", missing)


register_group(
    FeatureGroup(
        name="together",
        reads="the shopper's last items, and similarities of items from training events",
        features=tuple(one for kind, about in SIMILARITIES.items() for one in _names(kind, about, "never missing")),
        listed=lambda facts: tuple(
            one
            for kind, about in SIMILARITIES.items()
            if kind in facts.similarities
            for one in _names(kind, about, "never missing")
        ),
        alone=True,
        compute=_together,
        available=lambda facts: bool(facts.similarities),
        searches=False,
    )
)
register_group(
    FeatureGroup(
        name="cosines",
        reads="the shopper's last items, and the index vectors",
        features=tuple(one for kind in COSINES for one in _names(kind, f"cosine of {kind} with", NO_HISTORY)),
        listed=lambda facts: tuple(
            one
            for kind in COSINES
            if kind in facts.tower_parts
            for one in _names(kind, f"cosine of {kind} with", NO_HISTORY)
        ),
        alone=True,
        compute=_cosines,
        available=lambda facts: bool(facts.tower_parts) and len(facts.timeline.item) > 0,
        searches=False,
    )
)
