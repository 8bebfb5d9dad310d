"""What a release records of how it answers, read and written here alone. A change of its fields is a new format of
releases: see `indexing.bundle.releases.SCHEMA`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Literal, Self, TypeAlias, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from indexing.bundle.manifest import JsonMap
from indexing.bundle.releases import Release
from ranking.ordering.blend import Blend
from retrieval.errors import BadBundle, StaleArtefact
from retrieval.sources.fusion import Fusion
from retrieval.text.analysis import NONE, Analyzer
from retrieval.text.rendering import field_markers_fingerprint

SHORTLIST = 100  # candidates of a request, at least
OrderName: TypeAlias = Literal["recommend", "recommend_unseen", "search", "complete_cart"]  # what is weighted for
Fitted = TypeVar("Fitted")


class StepSettings(BaseModel):
    """One step of reranking: which model of the ranker, over how many places, in which numbers, with which blends, and
    the blends that were fitted beside them on the same lists without the model's logit."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())

    model: str
    depth: int = Field(ge=1)
    precision: str = "auto"
    blend: Mapping[str, Mapping[str, Any]] = {}
    control: Mapping[str, Mapping[str, Any]] = {}

    @property
    def blends(self) -> dict[str, Blend]:
        """By the name of an order, or `grade`. Raises BadBundle for one of another version."""
        return {name: Blend.of(weights) for name, weights in self.blend.items()}

    @property
    def controls(self) -> dict[str, Blend]:
        """The blends without a logit, by the name of an order. Raises BadBundle for one of another version."""
        return {name: Blend.of(weights) for name, weights in self.control.items()}


class EventsRead(BaseModel):
    """Up to where a release has read a store of recorded events."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    store: str  # the store's identity
    position: int  # of the last event that was read


class ReleaseSettings(BaseModel):
    """How a release answers, and the settings that made it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    filter_seen: bool  # whether recommendations leave out what was taken before, where a request does not say
    targets: tuple[str, ...] = ()  # kinds of events by which an item is taken
    language: str = NONE  # of the texts, ISO 639-1
    analysis: str | None = None  # fingerprint of how words are read
    titles: int = 3  # newest titles that the ranker reads
    field_markers: str | None = None  # of the ranker's texts: fingerprint of how their parts are marked; None: not
    rerank: tuple[StepSettings, ...] = ()
    fusion: Mapping[str, Mapping[str, Any]] = {}  # weights of the sources, by order
    config: Mapping[str, Any] = {}  # the tree of settings that made the release
    adopted: bool = False  # whether its models came from elsewhere
    item_vectors: Literal["made", "given"] = "made"
    events_read: EventsRead | None = None  # of a store of recorded events; None: the data set alone

    @classmethod
    def of(cls, release: Release) -> Self:
        """What a release recorded. Raises BadBundle, naming the field, for what this version does not know."""
        try:
            return cls.model_validate(release.settings)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"]))
            raise BadBundle(
                f"release {release.id}: its setting {where} is not of this version ({first['msg']}); "
                "make a new bundle: shortlist run NEW_BUNDLE --data DATA"
            ) from error

    def as_json(self) -> JsonMap:
        """As `Release.settings` holds it."""
        found: JsonMap = json.loads(self.model_dump_json())
        return found

    @property
    def analyzer(self) -> Analyzer:
        """What reads words in the release's language, but for compounds: see `ReleaseState.analyzer`."""
        return Analyzer(self.language)

    @property
    def fusions(self) -> dict[str, Fusion]:
        """The fusion of each order. Raises BadBundle for one of another version."""
        return {order: Fusion.of(dict(weights)) for order, weights in self.fusion.items()}

    def require_same_markers(self, release: Release) -> None:
        """Raises StaleArtefact where the release's ranker reads texts that this version marks in another way."""
        if release.ranker is not None and self.field_markers not in (None, field_markers_fingerprint()):
            raise StaleArtefact(
                f"the ranker {release.ranker} reads users' texts of another rendering ({self.field_markers}, this is "
                f"{field_markers_fingerprint()}); run: shortlist train ranker BUNDLE --data DATA (or adopt it again)"
            )

    def require_same_analysis(self, release: Release) -> None:
        """Raises StaleArtefact where the release's words were read in another way than this version reads them."""
        if release.words is not None and self.analysis != self.analyzer.fingerprint:
            raise StaleArtefact(
                f"release {release.id} reads words as another version of this package does; make one of this version: "
                "shortlist run BUNDLE --data DATA (or adopt its models again)"
            )


def with_settings(release: Release, **changes: object) -> Release:
    """A release with some of its recorded settings changed, by the fields of ReleaseSettings."""
    settings = ReleaseSettings.of(release).model_copy(update=changes)
    return replace(release, settings=settings.as_json())


INHERITED = {  # of a task without a gate of its own
    "recommend_unseen": "recommend",
    "personalised_search": "search",
    "complete_cart": "recommend",
}


def gates_passed(gates: Mapping[str, object]) -> frozenset[str]:
    """The tasks whose gate, as a release records it, lets the reranker on. A personalised search without a gate of its
    own follows that of search, a cart and new things that of recommendation.

    >>> sorted(gates_passed({"search": {"on": False}, "recommend": {"verdict": "adopted", "on": True}}))
    ['complete_cart', 'recommend', 'recommend_unseen']
    """
    return _inherited(gates, {task for task, gate in gates.items() if _is_on(gate)})


def features_passed(gates: Mapping[str, object]) -> frozenset[str]:
    """The same for the order by features, whose gate stands within that of the task.

    >>> sorted(features_passed({"recommend": {"on": False, "features": {"on": True}}, "complete_cart": {"on": False}}))
    ['recommend', 'recommend_unseen']
    """
    on = {task for task, gate in gates.items() if isinstance(gate, Mapping) and _is_on(gate.get("features"))}
    return _inherited(gates, on)


def _is_on(gate: object) -> bool:
    return isinstance(gate, Mapping) and gate.get("on") is True


def _inherited(gates: Mapping[str, object], on: set[str]) -> frozenset[str]:
    return frozenset(on | {task for task, like in INHERITED.items() if task not in gates and like in on})


def weights_for_task(found: Mapping[str, Fitted], name: str, otherwise: Fitted) -> Fitted:
    """What was fitted for an order; for new things what was fitted for any recommendation, where they have nothing of
    their own."""
    return found.get(name, found.get("recommend", otherwise) if name == "recommend_unseen" else otherwise)
