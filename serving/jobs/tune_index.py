"""`shortlist index tune`: measure every kind of index over a bundle's vectors, and tell what a build would choose."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

from indexing.ann.faiss_kinds import params_text
from indexing.bundle.bundle import Bundle
from indexing.bundle.releases import Release
from indexing.tuning.benchmark_index import Point
from indexing.tuning.build_index import RECALL_AT, recall_sample
from indexing.tuning.filter_crossover import Crossover, CrossoverMeter
from indexing.tuning.tuner import Chosen, Tuner
from retrieval.encoders.runtime import RuntimeOptions
from retrieval.errors import BadBundle
from serving.answering.release_state import ReleaseState
from serving.jobs.canaries import Canary, canaries_of, read_canaries, user_vectors
from serving.reporting.pareto_chart import IndexPoint, Pareto
from serving.shop import Shop


@dataclass(frozen=True, kw_only=True)
class Tuned:
    """The measurements, and what a build would choose."""

    release: str
    live: str  # the kind of the live index
    items: int
    dim: int
    asked: str  # the queries that recall was measured with, in words
    k: int
    target: float
    memory: int | None
    chosen: Chosen
    crossover: Crossover | None  # up to how many allowed items filters are answered by exact search

    def to_dict(self) -> dict[str, object]:
        """As JSON."""
        return {
            "release": self.release,
            "live": self.live,
            "items": self.items,
            "dim": self.dim,
            "queries": self.asked,
            "k": self.k,
            "recall": self.target,
            "memory": self.memory,
            "chosen": self.chosen.point.to_json(),
            "why": self.chosen.why,
            "curve": [point.to_json() for point in self.chosen.curve],
            "filters": None if self.crossover is None else self.crossover.to_json(),
        }

    def name_of(self, point: Point) -> str:
        """The kind of a measurement, with the number of vectors where those are a sample."""
        return point.kind if point.rows == self.items else f"{point.kind} over {point.rows:,}"

    @cached_property
    def best(self) -> frozenset[int]:
        """Positions in the curve of measurements that no other over as many vectors beats in recall and in time."""
        curve = self.chosen.curve
        return frozenset(at for at, point in enumerate(curve) if not any(_beaten(point, other) for other in curve))

    @cached_property
    def own_best(self) -> frozenset[int]:
        """Positions of those that no other of the same kind beats."""
        curve = self.chosen.curve
        alike = {at: [other for other in curve if other.kind == point.kind] for at, point in enumerate(curve)}
        return frozenset(at for at, others in alike.items() if not any(_beaten(curve[at], other) for other in others))

    def drawing(self) -> Pareto:
        """Recall against queries per second, with the choice marked."""
        kinds: dict[str, list[IndexPoint]] = {}
        for point in self.chosen.curve:
            kinds.setdefault(self.name_of(point), []).append(IndexPoint(point.recall, point.per_second))
        chosen = self.chosen.point
        setting = params_text(chosen.kind, chosen.params)
        name = f"{chosen.kind}, {setting}" if setting else chosen.kind
        aside = frozenset(self.name_of(point) for point in self.chosen.curve if point.rows != self.items)
        return Pareto(kinds, self.k, (name, IndexPoint(chosen.recall, chosen.per_second)), self.target, aside)


def tune_bundle(
    bundle: Bundle,
    *,
    shop: Shop | None,
    target: float,
    memory: int | None,
    device: str,
    seed: int,
    progress: Callable[[str, int, int], None],
) -> Tuned:
    """Measure over the vectors of the live index as it was built.

    Queries are user vectors of the release's canary requests, or of a `shop`'s. Nothing is written. Raises BadBundle
    where there are none.
    """
    live = bundle.current()
    opened = ReleaseState.of_release(bundle, live, RuntimeOptions(device=device))
    queries = user_vectors(opened, canaries_of(shop) if shop is not None else _stored(bundle, live))
    if not len(queries):
        raise BadBundle(
            f"{bundle.path}: release {live.id} holds no requests to measure with; give a data set with --data DATA"
        )
    vectors = opened.version.vectors
    sample, asked = recall_sample(vectors, queries, seed)
    k = min(RECALL_AT, len(vectors))
    tuner = Tuner(vectors=vectors, queries=sample, k=k, target=target, memory=memory, seed=seed, thorough=True)
    chosen = tuner.choose(progress)
    meter = CrossoverMeter(vectors=vectors, queries=sample, k=k, target=target, seed=seed)
    return Tuned(
        release=live.id,
        live=str(opened.version.manifest.about["factory"]),
        items=len(vectors),
        dim=opened.version.dim,
        asked=asked,
        k=k,
        target=target,
        memory=memory,
        chosen=chosen,
        crossover=None if chosen.index is None else meter.measure(chosen.index),
    )


def _stored(bundle: Bundle, release: Release) -> list[Canary]:
    """The canary requests of a release."""
    name = release.canaries
    return [] if name is None else read_canaries(bundle.path_of("canaries", name))


def _beaten(point: Point, by: Point) -> bool:
    return by.rows == point.rows and (
        (by.recall > point.recall and by.milliseconds <= point.milliseconds)
        or (by.recall >= point.recall and by.milliseconds < point.milliseconds)
    )
