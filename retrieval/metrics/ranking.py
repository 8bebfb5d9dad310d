"""Ranking metrics, vectorised over requests. Tied scores count at their expected metric over random order.

Each `*_at` function takes a ranking, the targets of each request, and k, and returns float64 [n_requests]: one value
per request, NaN for requests without targets. Average with `np.nanmean`. The closed forms for ties follow McSherry and
Najork, "Computing Information Retrieval Performance Measures Efficiently in the Presence of Tied Scores" (ECIR 2008).
"""

from __future__ import annotations

from collections.abc import Callable
from math import comb
from typing import Literal, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from retrieval.topk import CSR, Hits, Rows, Scores

Values: TypeAlias = NDArray[np.float64]
Counts: TypeAlias = NDArray[np.int64]
Gain: TypeAlias = Literal["linear", "exponential"]


class Places(NamedTuple):
    """The place of each target in the ranking of its request, aligned with `rows` of the targets."""

    above: Counts  # int64 [n_targets]  candidates with a higher score
    tied: Counts  # int64 [n_targets]  candidates with the same score, the target included; 0 if it was not ranked

    def chance(self, k: int) -> Values:
        """The probability of each target to be among the first k, float64 [n_targets]."""
        inside = np.clip(k - self.above, 0, self.tied)
        return np.divide(inside, self.tied, out=np.zeros(len(inside)), where=self.tied > 0)


Ranked: TypeAlias = Hits | Places


def places_in(hits: Hits, targets: CSR) -> Places:
    """The places of the targets in the ranked lists of their requests.

    A tie that continues beyond the end of a list counts as far as the list shows it; where that matters, use
    `Baseline.places`, which reads all scores.
    """
    first, tied = _tie_bounds(hits)
    query, rank = np.nonzero(hits.rows >= 0)
    span = int(max(hits.rows.max(initial=0), targets.rows.max(initial=0))) + 1
    listed = np.append(query * span + hits.rows[query, rank], -1)  # one key per place; -1 so that it is never empty
    wanted = targets.owners * span + targets.rows
    order = np.argsort(listed)
    spot = order[np.minimum(np.searchsorted(listed, wanted, sorter=order), len(listed) - 1)]
    found = listed[spot] == wanted
    above, size = np.zeros(len(wanted), np.int64), np.zeros(len(wanted), np.int64)
    at = (query[spot[found]], rank[spot[found]])
    above[found], size[found] = first[at], tied[at]
    return Places(above, size)


def recall_at(ranked: Ranked, targets: CSR, k: int) -> Values:
    """The share of a request's targets that are among the first k."""
    return _per_request(_placed(ranked, targets).chance(k), targets) / _sizes(targets)


def precision_at(ranked: Ranked, targets: CSR, k: int) -> Values:
    """The share of the first k places that hold a target; places missing from a short list count as misses."""
    return _per_request(_placed(ranked, targets).chance(k), targets) / np.where(_sizes(targets) > 0, k, np.nan)


def hit_rate_at(ranked: Ranked, targets: CSR, k: int) -> Values:
    """1 if any target is among the first k, else 0; with ties, the probability of it."""
    groups = _tie_groups(_placed(ranked, targets), targets)
    inside = np.clip(k - groups.above, 0, groups.tied)
    missed = np.ones(targets.n_lists)
    np.multiply.at(missed, groups.request, _each(_no_target, groups.tied, groups.relevant, inside))
    return np.where(_sizes(targets) > 0, 1 - missed, np.nan)


def mrr_at(ranked: Ranked, targets: CSR, k: int) -> Values:
    """The reciprocal rank of the first target, 0 if none is among the first k."""
    groups = _tie_groups(_placed(ranked, targets), targets)
    leading = np.append(True, groups.request[1:] != groups.request[:-1])[: len(groups.request)]
    deep = np.full(np.count_nonzero(leading), k)
    found = np.zeros(targets.n_lists)
    found[groups.request[leading]] = _each(
        _first_reciprocal, groups.above[leading], groups.tied[leading], groups.relevant[leading], deep
    )
    return np.where(_sizes(targets) > 0, found, np.nan)


def map_at(ranked: Ranked, targets: CSR, k: int) -> Values:
    """Average precision at k, divided by the number of targets as in trec_eval's `map_cut`."""
    groups = _tie_groups(_placed(ranked, targets), targets)
    harmonic = np.concatenate(([0.0], np.cumsum(1 / np.arange(1, k + 1))))
    start = np.minimum(groups.above, k)
    stop = np.minimum(groups.above + groups.tied, k)
    reciprocal = harmonic[stop] - harmonic[start]
    crowd = (groups.relevant - 1) / np.maximum(groups.tied - 1, 1)
    inside = (groups.before + 1) * reciprocal + crowd * (stop - start - (groups.above + 1) * reciprocal)
    total = np.bincount(groups.request, groups.relevant / groups.tied * inside, targets.n_lists)
    return total / _sizes(targets)


def ndcg_at(
    ranked: Ranked,
    targets: CSR,
    k: int,
    *,
    grades: NDArray[np.floating] | None = None,
    gain: Gain = "linear",
    lowest: float = 0.0,
) -> Values:
    """Normalised discounted cumulative gain with the discount 1 / log2(place + 1).

    `grades` is float [n_targets], 1 each if None. Linear gain is `grade - lowest` (trec_eval), exponential gain
    `2 ** (grade - lowest) - 1` (Burges et al., ICML 2005); with grades of 0 and 1 they are equal. NaN for a request
    whose gains are all 0.
    """
    gains = gains_of(np.ones(len(targets.rows)) if grades is None else grades, gain, lowest)
    places = _placed(ranked, targets)
    discounts = np.concatenate(([0.0], np.cumsum(1 / np.log2(np.arange(2, k + 2)))))
    spread = discounts[np.minimum(places.above + places.tied, k)] - discounts[np.minimum(places.above, k)]
    expected = np.divide(spread, places.tied, out=np.zeros(len(spread)), where=places.tied > 0)
    ideal = _ideal(gains, targets, np.diff(discounts))
    return _per_request(gains * expected, targets) / np.where(ideal > 0, ideal, np.nan)


def gains_of(grades: NDArray[np.floating], gain: Gain = "linear", lowest: float = 0.0) -> Values:
    """The gain of each grade, float64 [n]; see `ndcg_at`.

    >>> gains_of(np.array([1.0, 3.0]), "exponential", lowest=1).tolist()
    [0.0, 3.0]
    """
    above = np.asarray(grades, np.float64) - lowest
    return above if gain == "linear" else np.exp2(above) - 1


def gain_name(gain: Gain = "linear", lowest: float = 0.0) -> str:
    """The formula of the gain, to be printed beside nDCG.

    >>> gain_name("exponential", lowest=1)
    'exponential gain, 2^(grade - 1) - 1'
    """
    above = f"grade - {lowest:g}" if lowest else "grade"
    if gain == "linear":
        return f"linear gain, {above}" if lowest else "linear gain"
    return f"exponential gain, 2^({above}) - 1" if lowest else "exponential gain, 2^grade - 1"


def by_score(lists: CSR, scores: Scores) -> Hits:
    """Ranks each request's own list of candidates by `scores`, float32 [n_rows], ties by row.

    >>> by_score(CSR.from_lists([[4, 7], [2]]), np.array([0.1, 0.9, 0.5], np.float32)).rows.tolist()
    [[7, 4], [2, -1]]
    """
    order = np.lexsort((lists.rows, -scores, lists.owners))
    sizes = np.diff(lists.indptr)
    shape = (lists.n_lists, int(sizes.max(initial=0)))
    rank = np.arange(len(order)) - np.repeat(lists.indptr[:-1], sizes)
    hits = Hits(np.full(shape, -1, np.int64), np.full(shape, -np.inf, np.float32))
    hits.rows[lists.owners, rank] = lists.rows[order]
    hits.scores[lists.owners, rank] = scores[order]
    return hits


def without_ties(hits: Hits) -> Hits:
    """The same lists with scores that fall by 1 per place, so that there are no ties.

    For lists whose order was not made by their scores, such as a reranked prefix.
    """
    width = hits.rows.shape[1]
    scores = np.where(hits.rows >= 0, -np.arange(width, dtype=np.float32), np.float32(-np.inf))
    return Hits(hits.rows, scores)


def coverage_at(hits: Hits, n_items: int, k: int) -> float:
    """Catalogue coverage: the share of all items that are among the first k of any request."""
    shown = hits.rows[:, :k]
    return len(np.unique(shown[shown >= 0])) / n_items if n_items else 0.0


def novelty_at(hits: Hits, counts: Counts, k: int) -> float:
    """Novelty: the mean self-information of the items shown, -log2 of their share of all events, in bits.

    `counts` is int64 [n_items], events of each item; one is added to every count, so that an item without events is
    finite. NaN if nothing is shown. Zhou et al., PNAS 2010.
    """
    surprise = -np.log2((counts + 1) / (counts.sum() + len(counts)))
    return _mean_shown(hits, surprise, k)


def popularity_bias_at(hits: Hits, counts: Counts, k: int) -> float:
    """The mean popularity of the items shown divided by that of the items bought; 1 means no bias.

    `counts` is int64 [n_items], events of each item. NaN if nothing is shown or bought.
    """
    bought = float((counts.astype(np.float64) ** 2).sum() / counts.sum()) if counts.any() else np.nan
    return _mean_shown(hits, counts.astype(np.float64), k) / bought


class _TieGroups(NamedTuple):
    """Ties that hold targets, sorted by request and place; int64 [n_groups] each."""

    request: Counts
    above: Counts
    tied: Counts
    relevant: Counts  # targets in the tie
    before: Counts  # targets of the same request in better ties


def _tie_groups(places: Places, targets: CSR) -> _TieGroups:
    ranked = np.flatnonzero(places.tied > 0)
    owners = targets.owners[ranked]
    order = ranked[np.lexsort((places.above[ranked], owners))]
    request, above = targets.owners[order], places.above[order]
    new = np.append(True, (request[1:] != request[:-1]) | (above[1:] != above[:-1]))[: len(order)]
    start = np.flatnonzero(new)
    relevant = np.diff(np.append(start, len(order)))
    first_of_request = np.searchsorted(request, request[start])
    return _TieGroups(request[start], above[start], places.tied[order[start]], relevant, start - first_of_request)


def _tie_bounds(hits: Hits) -> tuple[Counts, Counts]:
    """The first place and the size of the tie that each place belongs to; int64 [n_queries, k] each."""
    n, width = hits.rows.shape
    breaks = np.ones((n, width + 1), bool)
    breaks[:, 1:width] = (hits.scores[:, 1:] != hits.scores[:, :-1]) | (hits.rows[:, 1:] < 0)
    edges = np.arange(width + 1)
    first = np.maximum.accumulate(np.where(breaks, edges, 0), axis=1)[:, :width]
    last = np.minimum.accumulate(np.where(breaks, edges, width)[:, ::-1], axis=1)[:, ::-1][:, 1:]
    return first, last - first


def _each(formula: Callable[..., float], *columns: Counts) -> Values:
    """A function of integers applied to the rows of aligned columns, once per distinct row, because most repeat."""
    lines, which = np.unique(np.stack(columns, axis=1), axis=0, return_inverse=True)
    return np.array([formula(*line) for line in lines.tolist()], np.float64)[which.reshape(-1)]


def _no_target(tied: int, relevant: int, inside: int) -> float:
    """The probability that `inside` places of a tie hold none of its targets."""
    return comb(tied - relevant, inside) / comb(tied, inside)


def _first_reciprocal(above: int, tied: int, relevant: int, k: int) -> float:
    """The expected reciprocal rank of the first of `relevant` targets in a tie of `tied` after `above` others."""
    total, none_yet = 0.0, 1.0
    for j in range(1, min(tied - relevant + 1, k - above) + 1):
        now = relevant / (tied - j + 1)
        total += none_yet * now / (above + j)
        none_yet *= 1 - now
    return total


def _ideal(gains: Values, targets: CSR, discounts: Values) -> Values:
    """The discounted gain of the ideal order, float64 [n_requests]."""
    order = np.lexsort((-gains, targets.owners))
    rank = np.arange(len(order)) - np.repeat(targets.indptr[:-1], np.diff(targets.indptr))
    weights = np.append(discounts, 0.0)[np.minimum(rank, len(discounts))]
    return _per_request(gains[order] * weights, targets)


def _placed(ranked: Ranked, targets: CSR) -> Places:
    return places_in(ranked, targets) if isinstance(ranked, Hits) else ranked


def _per_request(values: Values, targets: CSR) -> Values:
    return np.bincount(targets.owners, values, targets.n_lists).astype(np.float64)


def _sizes(targets: CSR) -> Values:
    sizes = np.diff(targets.indptr).astype(np.float64)
    return np.where(sizes > 0, sizes, np.nan)


def _mean_shown(hits: Hits, value: Values, k: int) -> float:
    shown: Rows = hits.rows[:, :k]
    shown = shown[shown >= 0]
    return float(value[shown].mean()) if len(shown) else float("nan")
