"""The registry of features: what each is, and the function that computes a group of them for shortlists.

A group is declared once, with `register_group` in the module that defines it; training, evaluation, the engine and the
documents read this registry. Groups of other packages are found by the entry-point group `shortlist.features`.
"""

from __future__ import annotations

import pkgutil
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from functools import cache
from importlib import import_module
from importlib.metadata import entry_points

import numpy as np
from numpy.typing import NDArray

from ranking.features.facts import ShopFacts
from ranking.features.shortlists import Shortlists
from retrieval.errors import BadConfig, StaleArtefact
from retrieval.fingerprint import fingerprint

GROUP = "shortlist.features"  # entry-point group
BLOCK = 512  # requests whose features are computed at once
Values = Mapping[str, NDArray[np.floating]]  # by feature: [n, k], or [n, 1] for what all candidates of a request share


@dataclass(frozen=True)
class Feature:
    """The declaration of a feature: its name, its unit, what it is, and what a missing value (nan) means."""

    name: str
    unit: str
    about: str
    missing: str = "never missing"


@dataclass(frozen=True, kw_only=True)
class FeatureGroup:
    """Features that are computed together.

    reads: what they need, in words. compute: a pure function of shortlists and the shop, `(shortlists, facts) ->
    {name: [n, k]}`. available: whether a shop has what they need. version: raise it whenever values change, for a
    ranker that learned from the former ones is then refused. searches: True for groups that read queries, False for
    groups that read shoppers, None for both. alone: whether a candidate's values are the same whatever else is on its
    shortlist, so that some of a list can be read by themselves. listed: the features of a group whose names depend on
    the shop.
    """

    name: str
    reads: str
    features: tuple[Feature, ...]
    compute: Callable[[Shortlists, ShopFacts], Values]
    available: Callable[[ShopFacts], bool] = lambda facts: True
    version: int = 1
    searches: bool | None = None
    alone: bool = False
    listed: Callable[[ShopFacts], tuple[Feature, ...]] | None = None

    def of(self, facts: ShopFacts) -> tuple[Feature, ...]:
        """The features that a shop has."""
        if not self.available(facts):
            return ()
        return self.features if self.listed is None else self.listed(facts)


_GROUPS: dict[str, FeatureGroup] = {}


def register_group(group: FeatureGroup) -> FeatureGroup:
    """Registers a group under its name. Raises BadConfig where the name is taken."""
    if _GROUPS.setdefault(group.name, group) is not group:
        raise BadConfig(f"a group of features named {group.name} is already registered; choose another name")
    return group


def feature_groups() -> tuple[FeatureGroup, ...]:
    """All registered groups, in the order of their names."""
    _load()
    return tuple(_GROUPS[name] for name in sorted(_GROUPS))


def features_of(facts: ShopFacts, *, search: bool) -> dict[str, FeatureGroup]:
    """The group of each feature that a shop has, by the feature's name; `search`: for searches, else for
    recommendation."""
    groups = (group for group in feature_groups() if group.searches in (None, search))
    return {feature.name: group for group in groups for feature in group.of(facts)}


def groups_fingerprint(groups: Iterable[FeatureGroup]) -> str:
    """A fingerprint of the declarations and versions of groups."""
    return fingerprint(
        [[group.name, group.version, [asdict(one) for one in group.features]] for group in dict.fromkeys(groups)]
    )


@dataclass(frozen=True)
class FeatureReader:
    """Computes the features `names` of a shop; only the groups that hold them."""

    names: tuple[str, ...]
    facts: ShopFacts
    columns: Mapping[FeatureGroup, tuple[tuple[str, int], ...]]  # of each group: names, and where they stand

    @classmethod
    def of(cls, names: Iterable[str], facts: ShopFacts) -> FeatureReader:
        """Raises StaleArtefact for a feature that is not registered, or whose data the shop lacks."""
        names = tuple(names)
        group_of = features_of(facts, search=False) | features_of(facts, search=True)
        columns: dict[FeatureGroup, tuple[tuple[str, int], ...]] = {}
        for column, name in enumerate(names):
            if name not in group_of:
                raise StaleArtefact(
                    f"the release orders by the feature {name}, which is not registered, or whose data the shop lacks; "
                    "run: shortlist run BUNDLE --data DATA"
                )
            columns[group_of[name]] = (*columns.get(group_of[name], ()), (name, column))
        return cls(names, facts, columns)

    def read(self, shortlists: Shortlists, places: NDArray[np.int64] | None = None) -> NDArray[np.float32]:
        """The features of every candidate, or of those at `places` int64 [k] of each list alone, float32
        [n, k, len(names)]; nan where missing and at a pad."""
        wanted = shortlists if places is None else shortlists.at(places)
        n, k = wanted.rows.shape
        found = np.full((len(self.names), n, k), np.nan, np.float32)  # one feature after the other is quicker to write
        for start in range(0, n, BLOCK) if (wanted.rows >= 0).any() else ():
            part = slice(start, start + BLOCK)
            lines = np.arange(start, min(start + BLOCK, n))
            whole, some = (one if n <= BLOCK else one.select(lines) for one in (shortlists, wanted))
            for group, columns in self.columns.items():
                values = group.compute(some if group.alone else whole, self.facts)
                for name, column in columns:
                    value = values[name]
                    given = places is None or group.alone or value.shape[1] == 1
                    found[column, part] = value if given else value[:, places]
        found[:, wanted.rows < 0] = np.nan
        return np.ascontiguousarray(found.transpose(1, 2, 0))

    @property
    def fingerprint(self) -> str:
        """Of the declarations and versions of what is read."""
        return groups_fingerprint(self.columns)


@cache
def _load() -> None:
    """Imports all modules that declare groups: those of this package, then those of entry points."""
    package = import_module("ranking.features.groups")
    for module in pkgutil.iter_modules(package.__path__):
        import_module(f"ranking.features.groups.{module.name}")
    for entry in entry_points(group=GROUP):
        entry.load()
