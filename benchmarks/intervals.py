"""Confidence intervals. Bootstrap intervals of many means share the draws of users."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from retrieval.metrics.ranking import Values

NORMAL = 1.96  # standard errors to each side of a 95 % interval
CELLS = 4_194_304  # drawn users held in memory at once


def mean_intervals(
    values: Values, users: NDArray[np.integer] | None, *, resamples: int, seed: int = 0
) -> tuple[Values, Values, Values]:
    """The mean of each column and its 95 % interval, float64 [n_columns] three times; nan in a column without values.

    values is float64 [n_requests, n_columns], nan where a request has no value. users is int [n_requests]: the requests
    of one user are drawn together; each request by itself where None. A percentile bootstrap (Efron and Tibshirani,
    1993).
    """
    known = ~np.isnan(values)
    counted = known.any(axis=1)
    values, known = np.where(known, values, 0.0)[counted], known[counted]
    owner = np.arange(len(values)) if users is None else np.unique(users[counted], return_inverse=True)[1]
    sums, counts = _by_owner(values, owner), _by_owner(known.astype(np.float64), owner)
    if not len(sums):
        nothing = np.full(values.shape[1], np.nan)
        return nothing, nothing, nothing
    means, random = np.empty((resamples, values.shape[1])), np.random.default_rng(seed)
    size = max(1, CELLS // len(sums))
    for start in range(0, resamples, size):
        times = _drawn(random, min(size, resamples - start), len(sums))
        means[start : start + size] = _divided(times @ sums, times @ counts)
    low, high = np.nanquantile(means, (0.025, 0.975), axis=0)
    return _divided(values.sum(axis=0), known.sum(axis=0)), low, high


def owner_means(values: Values, users: NDArray[np.integer] | None) -> Values:
    """Each user's mean over their requests, float64 [n_users with any value], in ascending order of users; the values
    of the requests themselves where users is None. values is float64 [n_requests], nan where a request has no value.

    >>> owner_means(np.array([1.0, 0.5, np.nan, 0.0, np.nan]), np.array([7, 2, 2, 7, 9])).tolist()
    [0.5, 0.5]
    """
    known = ~np.isnan(values)
    if users is None:
        return values[known]
    owner = np.unique(users[known], return_inverse=True)[1]
    return np.bincount(owner, values[known]) / np.bincount(owner)


def median_interval(values: Values) -> tuple[float, float]:
    """The 95 % interval of the median of float64 [n], by its order statistics (Conover, Practical Nonparametric
    Statistics, 3.2): no resampling, and no assumption about the distribution.

    >>> median_interval(np.arange(101.0))
    (40.0, 60.0)
    """
    ordered, n = np.sort(values), len(values)
    half = NORMAL * n**0.5 / 2
    low, high = max(int(np.floor((n - 1) / 2 - half + 0.5)), 0), min(int(np.ceil((n - 1) / 2 + half - 0.5)), n - 1)
    return float(ordered[low]), float(ordered[high])


def mean_ratio_interval(before: Values, after: Values, *, paired: bool) -> tuple[float, float]:
    """The 95 % interval of the ratio of both means, after over before, by the delta method and Student's t; nan where
    the mean before is 0. Needs two values or more on each side."""
    from scipy.stats import t

    centre = float(before.mean())
    if not centre:
        return float("nan"), float("nan")
    ratio = float(after.mean()) / centre
    if paired:
        spread = (after - ratio * before).var(ddof=1) / len(before)
    else:
        spread = ratio**2 * before.var(ddof=1) / len(before) + after.var(ddof=1) / len(after)
    half = float(t.ppf(0.975, min(len(before), len(after)) - 1) * spread**0.5 / abs(centre))
    return ratio - half, ratio + half


def _drawn(random: np.random.Generator, draws: int, users: int) -> Values:
    """How often each user is in each draw of all users with replacement, float64 [draws, users]."""
    cells = random.integers(0, users, (draws, users)) + users * np.arange(draws)[:, None]
    return np.bincount(cells.reshape(-1), minlength=draws * users).reshape(draws, users).astype(np.float64)


def _by_owner(values: Values, owner: NDArray[np.integer]) -> Values:
    """The sum of each owner's rows, float64 [n_owners, n_columns]."""
    found = np.zeros((int(owner.max(initial=-1)) + 1, values.shape[1]))
    np.add.at(found, owner, values)
    return found


def _divided(above: Values, below: Values) -> Values:
    shares: Values = np.divide(above, below, out=np.full(above.shape, np.nan), where=below > 0)
    return shares
