"""The registry of candidate sources, which fitting, serving, evaluation and the documents read.

Each source has one declaration, made with `register_source` in the module that defines it. A source of another package
is declared in the same way; it is found by the entry-point group `shortlist.sources`, or by importing its module before
a bundle is opened.
"""

from __future__ import annotations

import pkgutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from retrieval.data.timeline import Timeline
from retrieval.errors import BadConfig
from retrieval.sources.protocols import CandidateSource
from retrieval.topk import CSR

if TYPE_CHECKING:
    import pyarrow as pa
    from scipy.sparse import csr_array

GROUP = "shortlist.sources"  # entry-point group
Lookup: TypeAlias = Callable[[Sequence[str]], CSR]  # texts to the rows of the items that each of them names


class CodeLookups(NamedTuple):
    """What finds items by what names them."""

    texts: Sequence[Lookup]  # by ids and codes, letter by letter
    keys: Sequence[Lookup]  # by keys of ids and codes: see `retrieval.text.codes`


class LaterTakings(NamedTuple):
    """What was taken after the events that a release was built of, over the rows of its index.

    The days between the release's last event and the first later one, `shift` many, are left out, for nothing is known
    of them: the release's events stand that much later.
    """

    item: NDArray[np.int64]  # [n] rows
    day: NDArray[np.int64]  # [n] whole days since 1970, UTC
    sign: NDArray[np.int64]  # [n] 1; -1 for a taking that was undone by a return
    today: int  # the day after the newest event
    shift: int  # days


class ReleaseParts(Protocol):
    """The parts of a release that a source can be made from, for the current rows of its index."""

    @property
    def n_items(self) -> int:
        """The number of rows of the index."""
        ...

    @property
    def timeline(self) -> Timeline:
        """The events of all users as of the build."""
        ...

    @property
    def targets(self) -> tuple[str, ...]:
        """The kinds of target events."""
        ...

    @property
    def today(self) -> int:
        """The day after the last event, in whole days since 1970, UTC."""
        ...

    @property
    def lexical(self) -> Callable[[], CandidateSource] | None:
        """Reads the BM25 index of the items' texts; None if the release has none."""
        ...

    def similarity(self, name: str) -> Callable[[], csr_array] | None:
        """Reads item-to-item similarities, sparse float32 [n_items, n_items]; None if the release has none.

        `name` is `together` (co-occurrence), `after` (what follows an item), `lately` (recent co-occurrence), `baskets`
        (what else baskets held), `completes` or `replaces` (what the shop relates).
        """
        ...

    def column(self, name: str) -> pa.ChunkedArray | None:
        """A column of the items by row; None if they have no such column."""
        ...

    def lookups(self) -> CodeLookups:
        """Look-ups of items by id and by product codes."""
        ...


@dataclass(frozen=True, kw_only=True)
class FitCase:
    """The ranking that the weights of sources are fitted for."""

    order: str  # "recommend", "recommend_unseen", "search" or "complete_cart"
    temporal: bool = False  # timestamps of different users are comparable
    unseen: bool = False  # items that the user took before are excluded


def _always(parts: ReleaseParts) -> bool:
    return True


@dataclass(frozen=True, kw_only=True)
class SourceSpec:
    """The declaration of a source.

    name: its name in weights, answers and evaluations.
    about: what it scores, in a few words, for documents and explanations.
    make: makes the source from the parts of a release; called once, on first use.
    counts_for: whether it gets a weight in a case.
    available: whether a release has the parts that it needs.
    proposes: whether it proposes candidates, or only scores those of other sources.
    follows_updates: whether it is made again after an update of the index; otherwise it stays as of the build.
    continued: adds to the source what was taken since the release; none: it stays as of the build.
    """

    name: str
    about: str
    make: Callable[[ReleaseParts], CandidateSource]
    counts_for: Callable[[FitCase], bool]
    available: Callable[[ReleaseParts], bool] = _always
    proposes: bool = True
    follows_updates: bool = False
    continued: Callable[[Any, LaterTakings], CandidateSource] | None = None


_SPECS: dict[str, SourceSpec] = {}


def register_source(spec: SourceSpec) -> SourceSpec:
    """Registers a source under its name. Raises BadConfig where the name is taken."""
    if _SPECS.setdefault(spec.name, spec) is not spec:
        raise BadConfig(f"a candidate source named {spec.name} is already registered; choose another name")
    return spec


def source_specs() -> tuple[SourceSpec, ...]:
    """All registered sources, in the order of their weights."""
    _load()
    return tuple(_SPECS.values())


def sources_for(case: FitCase) -> tuple[str, ...]:
    """The names of the sources that get a weight in `case`."""
    return tuple(spec.name for spec in source_specs() if spec.counts_for(case))


@cache
def _load() -> None:
    """Imports all modules that declare sources: those of this package, then those of entry points."""
    package = import_module("retrieval.sources")
    for module in pkgutil.iter_modules(package.__path__):
        import_module(f"retrieval.sources.{module.name}")
    for entry in entry_points(group=GROUP):
        entry.load()
