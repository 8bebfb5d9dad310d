"""The gate: whether one order of shortlists is better than another, by a paired bootstrap over users."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from retrieval.errors import BadRequest

Verdict: TypeAlias = Literal["proven", "likely", "no"]

LIKELY_SHARE = 0.8  # share of resamples with a mean above 0 for the verdict `likely`
MIN_USERS = 20  # with fewer users the verdict is `no`: their resamples are too alike
DETECTABLE = 1.95996 + 0.84162  # standard errors: 5 % two-sided and 80 % power, for a normal mean
BLOCK = 4_194_304  # users drawn at a time


@dataclass(frozen=True, kw_only=True)
class GateVerdict:
    """The gate's result, as a release records it.

    `n` counts requests and `users` the users that sent them; `mean` is the mean difference (after - before) over
    requests, with the 95 % interval `low` to `high`; `share_positive` is the share of resamples whose mean is above 0.
    `mde` is the minimum detectable effect: the true difference that this many users show in 4 cases of 5, 2.80 standard
    errors (the sum of the normal quantiles at .975 and .80); None where all differences are equal or there is one user.
    """

    verdict: Verdict
    n: int
    users: int
    mean: float
    low: float
    high: float
    share_positive: float
    mde: float | None

    def passes(self, required: Verdict) -> bool:
        """Whether the verdict is at least `required`.

        >>> verdict = gate(np.zeros(40), np.full(40, .1))
        >>> verdict.verdict, verdict.passes("likely"), gate(np.zeros(40), np.zeros(40)).passes("likely")
        ('proven', True, False)
        """
        ladder: tuple[Verdict, ...] = ("no", "likely", "proven")
        return ladder.index(self.verdict) >= ladder.index(required)

    def as_json(self) -> dict[str, str | int | float | None]:
        """The fields by name, as JSON takes them."""
        return asdict(self)


def gate(
    before: NDArray[np.floating],
    after: NDArray[np.floating],
    *,
    users: NDArray[np.integer] | None = None,
    resamples: int = 4_000,
    seed: int = 0,
) -> GateVerdict:
    """Compare a metric (nDCG@10) of the same n requests under two orders, by a paired bootstrap over users.

    before and after are float [n]; `users` int [n] is each request's user, whose requests are drawn together; without
    it every request is its own user. `proven`: the 95 % percentile interval of the mean lies above 0. `likely`: the
    mean and 80 % of the resamples are above 0. `no`: otherwise, and where fewer than 20 users were seen. Raises
    BadRequest where the arrays differ in length. Follows Sakai, SIGIR 2006, and Efron and Tibshirani, 1993.
    """
    if len(before) != len(after) or (users is not None and len(users) != len(before)):
        raise BadRequest(
            f"the gate got {len(before)} figures before and {len(after)} after; pass one of each, and a user, "
            "for every request"
        )
    if len(before) == 0:
        return GateVerdict(verdict="no", n=0, users=0, mean=0.0, low=0.0, high=0.0, share_positive=0.0, mde=None)
    difference = np.asarray(after, np.float64) - np.asarray(before, np.float64)
    owner = np.arange(len(difference)) if users is None else np.unique(users, return_inverse=True)[1]
    sums, counts = np.bincount(owner, weights=difference).astype(np.float64), np.bincount(owner)
    means = _resampled_means(sums, counts, resamples, np.random.default_rng(seed))
    low, high = (float(bound) for bound in np.quantile(means, (0.025, 0.975)))
    mean, share, error = float(difference.mean()), float((means > 0).mean()), float(means.std())
    return GateVerdict(
        verdict=_verdict(mean, low, share, len(sums)),
        n=len(difference),
        users=len(sums),
        mean=mean,
        low=low,
        high=high,
        share_positive=share,
        mde=DETECTABLE * error if error > 0 else None,
    )


def _verdict(mean: float, low: float, share_positive: float, n_users: int) -> Verdict:
    if n_users < MIN_USERS:
        return "no"
    if low > 0:
        return "proven"
    return "likely" if mean > 0 and share_positive >= LIKELY_SHARE else "no"


def _resampled_means(
    sums: NDArray[np.float64], counts: NDArray[np.int64], resamples: int, random: np.random.Generator
) -> NDArray[np.float64]:
    """The mean difference over requests of each draw of len(sums) users with replacement, float64 [resamples]."""
    size = max(1, BLOCK // len(sums))
    means = np.empty(resamples)
    for start in range(0, resamples, size):
        drawn = random.integers(0, len(sums), (min(size, resamples - start), len(sums)))
        means[start : start + size] = sums[drawn].sum(axis=1) / counts[drawn].sum(axis=1)
    return means
