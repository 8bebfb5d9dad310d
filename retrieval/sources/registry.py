"""The registry of candidate sources: one declaration each, which fitting, serving, evaluation and documents read.

A module of `retrieval.sources` declares its sources with `register_source` where it defines them. One of another
package does the same; it is found under the entry-point group `shortlist.sources`, or imported before a bundle is
opened.
"""

from __future__ import annotations

import pkgutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Protocol, TypeAlias

from retrieval.data.timeline import Timeline
from retrieval.errors import BadConfig
from retrieval.sources.protocols import CandidateSource
from retrieval.topk import Rows

if TYPE_CHECKING:
    import pyarrow as pa
    from scipy.sparse import csr_array

GROUP = "shortlist.sources"  # of entry points
Lookup: TypeAlias = Callable[[Sequence[str]], Rows]  # the row of each text, -1 for one that names no item


class ReleaseParts(Protocol):
    """What a source can be made from: the parts of a release, over the rows of its index as it is now."""

    @property
    def n_items(self) -> int:
        """Rows of the index."""
        ...

    @property
    def timeline(self) -> Timeline:
        """What every user did, as of the build."""
        ...

    @property
    def targets(self) -> tuple[str, ...]:
        """Kinds of events by which an item is taken."""
        ...

    @property
    def today(self) -> int:
        """The day after the last event, in whole days since 1970, UTC."""
        ...

    @property
    def lexical(self) -> Callable[[], CandidateSource] | None:
        """Reads BM25 of the items' words; None where the release has none."""
        ...

    def similarity(self, name: str) -> Callable[[], csr_array] | None:
        """Reads what goes with what, sparse float32 [n_items, n_items]: `together`, `after` or `lately`; None where the
        release has none."""
        ...

    def column(self, name: str) -> pa.ChunkedArray | None:
        """The values of a column of the items, by row; None where they have no such column."""
        ...

    def lookups(self) -> Sequence[Lookup]:
        """What finds an item by its id, and by each code that items have."""
        ...


@dataclass(frozen=True, kw_only=True)
class FitCase:
    """What sources are weighted for."""

    order: str  # "recommend", "recommend_unseen" or "search"
    temporal: bool = False  # times of different users can be compared
    unseen: bool = False  # what a user took before is not answered


def _always(parts: ReleaseParts) -> bool:
    return True


@dataclass(frozen=True, kw_only=True)
class SourceSpec:
    """The declaration of a source.

    name: under which weights, answers and evaluations name it.
    about: what it scores, in a few words, for documents and explanations.
    make: the source from the parts of a release; called once, when it is first read.
    counts_for: what it is weighted for.
    available: whether a release has what it needs.
    proposes: whether it proposes candidates of its own, or only scores those of others.
    follows_updates: whether it is made again after an update of the index; else it stays as of the build.
    """

    name: str
    about: str
    make: Callable[[ReleaseParts], CandidateSource]
    counts_for: Callable[[FitCase], bool]
    available: Callable[[ReleaseParts], bool] = _always
    proposes: bool = True
    follows_updates: bool = False


_SPECS: dict[str, SourceSpec] = {}


def register_source(spec: SourceSpec) -> SourceSpec:
    """Makes a source known under its name. Raises BadConfig where another has it."""
    if _SPECS.setdefault(spec.name, spec) is not spec:
        raise BadConfig(f"a source of candidates named {spec.name} is registered already; give it another name")
    return spec


def source_specs() -> tuple[SourceSpec, ...]:
    """Every registered source, in the order in which they are weighted."""
    _load()
    return tuple(_SPECS.values())


def sources_for(case: FitCase) -> tuple[str, ...]:
    """The names of the sources that are weighted for a case."""
    return tuple(spec.name for spec in source_specs() if spec.counts_for(case))


@cache
def _load() -> None:
    """Imports whatever declares sources: our own modules, then those of other packages."""
    package = import_module("retrieval.sources")
    for module in pkgutil.iter_modules(package.__path__):
        import_module(f"retrieval.sources.{module.name}")
    for entry in entry_points(group=GROUP):
        entry.load()
