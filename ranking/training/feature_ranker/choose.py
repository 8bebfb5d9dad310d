"""Which kind of feature ranker a shop takes: the simplest whose order of validation lists no other clearly beats."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ranking.feature_ranker.lists import TrainingLists
from ranking.feature_ranker.protocol import FeatureRanker
from ranking.training.feature_ranker.lambdamart import fit_lambdamart
from ranking.training.feature_ranker.linear import fit_linear
from retrieval.encoders.free_cores import busy_cores, free_cores, threads_beside
from retrieval.encoders.runtime import available_cores
from retrieval.errors import BadConfig, MissingDependency
from retrieval.extras import require

MIN_LISTS = 20  # informative lists; with fewer nothing is fitted
MARGIN = 1.0  # standard errors of the difference by which a kind has to beat every simpler one

Values = NDArray[np.float64]
Hyperparameters = Mapping[str, Any]
Say = Callable[[str], None]


class Fit(Protocol):
    """Fits a ranker of one kind on `lists`, and gives it with the hyperparameters that were found on `valid`.

    Without `valid` they are given as `found`.
    """

    def __call__(
        self, lists: TrainingLists, valid: TrainingLists | None, found: Hyperparameters, *, seed: int, say: Say
    ) -> tuple[FeatureRanker, Hyperparameters]: ...


@dataclass(frozen=True)
class Fitter:
    """How rankers of a kind are fitted; fitters are tried in the order of their complexity."""

    kind: str
    min_lists: int  # informative training lists, below which the kind is not tried beside others
    packages: tuple[str, ...]  # what it needs of the extras, keys of `retrieval.extras.EXTRA_OF`
    fit: Fit

    def require(self) -> None:
        """Raises MissingDependency where a package that it needs is not installed."""
        for package in self.packages:
            require(package, f"the feature ranker {self.kind}")


@dataclass(frozen=True)
class Chosen:
    """A ranker fitted on the training lists, and how the kinds compared, for the record of a release.

    `figures` holds `lists` and `valid_lists` (informative), `features`, `base_ndcg`, and for each kind that was tried
    its nDCG@10 on the validation lists, `gain` over the base with its `standard_error`, and its hyperparameters.
    """

    ranker: FeatureRanker
    kind: str
    hyperparameters: Hyperparameters
    seed: int
    figures: dict[str, Any]


_FITTERS: dict[str, Fitter] = {}


def register_fitter(fitter: Fitter) -> Fitter:
    """Makes `choose` try a kind, after those that are registered already. Raises BadConfig for a name that is taken."""
    if _FITTERS.setdefault(fitter.kind, fitter) is not fitter:
        raise BadConfig(f"a fitter of the kind {fitter.kind} is already registered; give it another name")
    return fitter


def known_kinds() -> tuple[str, ...]:
    """The kinds that can be fitted, simplest first."""
    return tuple(_FITTERS)


def choose(
    train: TrainingLists,
    valid: TrainingLists,
    kinds: Sequence[str] | None = None,
    *,
    seed: int = 0,
    say: Say = lambda line: None,
) -> Chosen | None:
    """Fits the kinds on `train` and takes one by its nDCG@10 on `valid`; None for fewer than MIN_LISTS training lists.

    A kind is taken over a simpler one where its mean is higher by more than MARGIN standard errors of the paired
    difference. Of several `kinds` (None: all) those are left out that need more lists than there are or a package that
    is not installed; a kind that stands alone is fitted all the same, and a missing package raises MissingDependency.
    Raises BadConfig for an unknown kind.
    """
    train, valid = train.informative(), valid.with_columns(train.names).informative()
    fitters = _fitters(kinds)
    if train.n_lists < MIN_LISTS:
        say(f"too few lists to learn an order from: {train.n_lists} of at least {MIN_LISTS}")
        return None
    if len(fitters) > 1:
        fitters = _allowed(fitters, train.n_lists, valid.n_lists, say)
    fitters[0].require()
    before = best = valid.ndcg(valid.base)
    figures: dict[str, Any] = {"lists": train.n_lists, "valid_lists": valid.n_lists, "features": len(train.names)}
    figures |= {"base_ndcg": float(before.mean()) if len(before) else None, "kinds": {}}
    chosen: Chosen | None = None
    for fitter in fitters:
        ranker, found = fitter.fit(train, valid if valid.n_lists else None, {}, seed=seed, say=say)
        values = valid.ndcg(ranker.score(valid.features, valid.base))
        figures["kinds"][fitter.kind] = {**(_summary(values, before) if len(values) else {}), **found}
        if len(values):
            say(f"{fitter.kind}: nDCG@10 {values.mean():.4f} on {len(values)} lists, {before.mean():.4f} before")
        if chosen is None or _is_better(values, best):
            chosen, best = Chosen(ranker, fitter.kind, found, seed, figures), values
    return chosen


def orders_better(ranker: FeatureRanker, other: FeatureRanker, valid: TrainingLists) -> bool:
    """Whether a ranker orders lists better than another by more than MARGIN standard errors of the paired difference;
    each reads its own features of them."""
    values = []
    for one in (ranker, other):
        lists = valid.informative().with_columns(one.names)
        values.append(lists.ndcg(one.score(lists.features, lists.base)))
    return bool(len(values[0])) and _is_better(*values)


def refit(chosen: Chosen, lists: TrainingLists, *, say: Say = lambda line: None) -> FeatureRanker:
    """A ranker of the chosen kind with the hyperparameters that were found, fitted on other, usually more, lists."""
    return _FITTERS[chosen.kind].fit(lists, None, chosen.hyperparameters, seed=chosen.seed, say=say)[0]


def _fitters(kinds: Sequence[str] | None) -> list[Fitter]:
    unknown = set(kinds or ()) - set(_FITTERS)
    if unknown:
        raise BadConfig(f"there is no feature ranker of the kind {min(unknown)}; take one of {', '.join(_FITTERS)}")
    return [fitter for kind, fitter in _FITTERS.items() if not kinds or kind in kinds]


def _allowed(fitters: Sequence[Fitter], n_lists: int, n_valid: int, say: Say) -> list[Fitter]:
    """Those that lists and installed packages allow; the simplest whatever there is."""
    allowed = list(fitters[:1])
    for fitter in fitters[1:]:
        if n_lists < fitter.min_lists or n_valid < MIN_LISTS:
            say(f"{fitter.kind} is not tried: {n_lists} lists to train on and {n_valid} to validate are too few")
            continue
        try:
            fitter.require()
        except MissingDependency as missing:
            say(f"{fitter.kind} is not tried: {missing}")
            continue
        allowed.append(fitter)
    return allowed


def _is_better(values: Values, simpler: Values) -> bool:
    difference, doubt = _paired(values - simpler)
    return difference > MARGIN * doubt


def _summary(values: Values, before: Values) -> dict[str, float]:
    """nDCG and its gain over that of the base with a standard error, as JSON takes them."""
    gain, doubt = _paired(values - before)
    return {"ndcg": float(values.mean()), "gain": gain, "standard_error": doubt}


def _paired(differences: Values) -> tuple[float, float]:
    """The mean of paired differences and its standard error."""
    return float(differences.mean()), float(differences.std() / np.sqrt(max(len(differences) - 1, 1)))


def _linear(
    lists: TrainingLists, valid: TrainingLists | None, found: Hyperparameters, *, seed: int, say: Say
) -> tuple[FeatureRanker, Hyperparameters]:
    ranker, prior_sd = fit_linear(lists, **found)
    return ranker, {"prior_sd": prior_sd}


def _lambdamart(
    lists: TrainingLists, valid: TrainingLists | None, found: Hyperparameters, *, seed: int, say: Say
) -> tuple[FeatureRanker, Hyperparameters]:
    cores = available_cores()
    threads = threads_beside(busy_cores(), cores, cores)
    ranker, trees = fit_lambdamart(lists, valid, seed=seed, threads=0 if threads == cores else threads, **found)
    return ranker, {"trees": list(trees)}


def _mlp(
    lists: TrainingLists, valid: TrainingLists | None, found: Hyperparameters, *, seed: int, say: Say
) -> tuple[FeatureRanker, Hyperparameters]:
    from ranking.training.feature_ranker.mlp import fit_mlp

    with free_cores("mlp", "cpu", say):
        ranker, epochs = fit_mlp(lists, valid, seed=seed, say=say, **found)
    return ranker, {"epochs": epochs}


register_fitter(Fitter("linear", MIN_LISTS, (), _linear))
register_fitter(Fitter("lambdamart", 300, ("lightgbm",), _lambdamart))
register_fitter(Fitter("mlp", 300, ("torch",), _mlp))
