"""What a release recorded of how it answers, but for its steps of reranking."""

from __future__ import annotations

from collections.abc import Mapping

from indexing.bundle.manifest import JsonMap
from indexing.bundle.releases import Release
from retrieval.errors import StaleArtefact
from retrieval.sources.fusion import Fusion
from retrieval.text.rendering import marked_fingerprint


def fusions_of(settings: JsonMap) -> dict[str, Fusion]:
    """The fusion of each task that the release recorded. Raises BadBundle for one of another version."""
    recorded = settings.get("fusion")
    tasks = recorded.items() if isinstance(recorded, dict) else ()
    return {task: Fusion.of(weights) for task, weights in tasks if isinstance(weights, dict)}


def reads_marks(release: Release) -> bool:
    """Whether a release's ranker reads texts whose parts say what they are. Raises StaleArtefact where it has one, for
    which this version says it otherwise."""
    recorded = release.settings.get("field_markers")
    if release.ranker is not None and recorded not in (None, marked_fingerprint()):
        raise StaleArtefact(
            f"the ranker {release.ranker} reads shoppers' texts of another rendering ({recorded}, this is "
            f"{marked_fingerprint()}); run: shortlist train ranker BUNDLE --data DATA (or adopt it again)"
        )
    return recorded is not None


def setting_of(settings: JsonMap, name: str, default: int) -> int:
    """A whole number that the release recorded."""
    value = settings.get(name, default)
    return value if isinstance(value, int) else default


def passed(gates: Mapping[str, object]) -> frozenset[str]:
    """The tasks whose gate, as a release records it, lets the reranker on.

    >>> passed({"search": {"verdict": "proven", "on": True}, "recommend": {"verdict": "no", "on": False}})
    frozenset({'search'})
    """
    return frozenset(task for task, gate in gates.items() if isinstance(gate, Mapping) and gate.get("on") is True)
