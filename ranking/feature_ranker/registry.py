"""The kinds of feature rankers by name; whatever opens one reads this registry."""

from __future__ import annotations

from pathlib import Path

from ranking.feature_ranker.files import read_about
from ranking.feature_ranker.lambdamart import LambdaMARTRanker
from ranking.feature_ranker.linear import LinearRanker
from ranking.feature_ranker.mlp import MLPRanker
from ranking.feature_ranker.protocol import FeatureRanker
from retrieval.errors import BadBundle, BadConfig

_KINDS: dict[str, type[FeatureRanker]] = {}


def register_kind(kind: str, ranker: type[FeatureRanker]) -> None:
    """Makes `load` open files of a kind with the class `ranker`. Raises BadConfig where another class has the name."""
    if _KINDS.setdefault(kind, ranker) is not ranker:
        raise BadConfig(f"a kind of feature ranker named {kind} is already registered; give it another name")


def load(folder: Path, name: str) -> FeatureRanker:
    """The feature ranker that was saved to `folder` under `name`, of whatever kind.

    Raises BadBundle for a missing file, another version or an unknown kind, CorruptBundle for a file that cannot be
    read, MissingDependency where the kind needs a package that is not installed.
    """
    kind = read_about(folder, name)["kind"]
    if kind not in _KINDS:
        known = ", ".join(_KINDS)
        raise BadBundle(f"{folder / name}.json is of the kind {kind}, which is not known; it must be one of {known}")
    return _KINDS[kind].load(folder, name)


register_kind("linear", LinearRanker)
register_kind("lambdamart", LambdaMARTRanker)
register_kind("mlp", MLPRanker)
