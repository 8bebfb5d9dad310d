"""The state of a bundle and its releases, for people and for monitoring."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from indexing.bundle.bundle import Bundle
from indexing.bundle.manifest import Json, JsonMap
from indexing.bundle.releases import Release, rerank_gates
from indexing.version.segments import segment_counts
from retrieval.errors import BadBundle

FIGURE = "ndcg@10"
TASKS: Mapping[str, tuple[str, ...]] = {
    "recommend": ("recommend", "seen_removed"),
    "search": ("search",),
}  # the place of each task in an evaluation


@dataclass(frozen=True)
class ReleaseLine:
    """A release in brief. `items`, `kind` and `recall` describe its index as built, None where that is missing or
    damaged. `figures` are the final nDCG@10 by task, if the release was evaluated. `refused_by` are the gates that kept
    it from being published. `gates` are those of the second stage by task, with the figures of both of their steps."""

    release: str
    live: bool
    created: str
    who: str
    why: str
    items: int | None
    kind: str | None
    recall: float | None
    figures: Mapping[str, float]
    refused_by: tuple[str, ...]
    gates: JsonMap
    parts: Mapping[str, str]


@dataclass(frozen=True)
class Status:
    """The state of a bundle.

    `since` is when the live release became live, empty if unknown. `updates` counts the updates of its index since it
    was built, `upserted` and `deleted` their items. `writer` is the id of the process that is writing. `staging` are
    the bytes of unfinished files by name, of the writer or left by one that died. `bytes` are those of each folder of
    the bundle; hard-linked files count once.
    """

    live: ReleaseLine
    since: str
    rollback_to: str | None
    updates: int
    upserted: int
    deleted: int
    releases: int
    writer: int | None
    staging: Mapping[str, int]
    bytes: Mapping[str, int]

    def to_dict(self) -> dict[str, object]:
        """As JSON."""
        return asdict(self)


def status(bundle: Bundle) -> Status:
    """The state of a bundle. Raises BadBundle if no release is live, CorruptBundle if the live one cannot be opened."""
    live = bundle.current()
    updates, upserted, deleted = segment_counts(bundle.path_of("index", live.index))
    path = bundle.rollback_path()
    since = [move.at for move in bundle.moves() if move.release == live.id]
    return Status(
        live=_release_line(bundle, live, live.id),
        since=since[-1] if since else "",
        rollback_to=path[-2] if len(path) > 1 else None,
        updates=updates,
        upserted=upserted,
        deleted=deleted,
        releases=len(bundle.releases()),
        writer=bundle.writer(),
        staging=_sizes(bundle.path / ".staging"),
        bytes=_sizes(bundle.path),
    )


def releases_of(bundle: Bundle) -> list[ReleaseLine]:
    """Every release, oldest first."""
    live = bundle.current_id()
    return [_release_line(bundle, release, live) for release in bundle.releases()]


def _release_line(bundle: Bundle, release: Release, live: str | None) -> ReleaseLine:
    try:
        about: JsonMap = bundle.manifest("index", release.index).about
    except BadBundle:
        about = {}
    items, kind, recall = about.get("n"), about.get("factory"), about.get("recall")
    return ReleaseLine(
        release=release.id,
        live=release.id == live,
        created=release.created,
        who=release.who,
        why=release.why,
        items=items if isinstance(items, int) else None,
        kind=kind if isinstance(kind, str) else None,
        recall=float(recall) if isinstance(recall, int | float) else None,
        figures=_figures(release),
        refused_by=tuple(name for name, gate in release.gates.items() if _refused(gate)),
        gates=rerank_gates(release),
        parts=release.parts(),
    )


def _refused(gate: Json) -> bool:
    return isinstance(gate, dict) and gate.get("passed") is False and not gate.get("overruled")


def _figures(release: Release) -> dict[str, float]:
    """The final nDCG@10 by task: of all requests, or of the sample that the cross-encoder was measured on."""
    found: dict[str, float] = {}
    for task, place in TASKS.items():
        for of in ((), ("sample",)):
            figure = _at(release.figures, "evaluation", *place, *of, "stages", "final", FIGURE)
            if isinstance(figure, float):
                found.setdefault(task, figure)
    return found


def _at(value: Json, *names: str) -> Json:
    for name in names:
        value = value.get(name) if isinstance(value, dict) else None
    return value


def _sizes(folder: Path) -> dict[str, int]:
    """The bytes below each entry of a folder, by name; hard-linked files count once."""
    seen, sizes = set[tuple[int, int]](), dict[str, int]()
    for entry in sorted(folder.iterdir()) if folder.is_dir() else ():
        sizes[entry.name] = 0
        for path in (entry, *entry.rglob("*")):
            try:
                state = path.lstat()
            except FileNotFoundError:  # a writer removed it meanwhile
                continue
            if path.is_file() and (state.st_dev, state.st_ino) not in seen:
                seen.add((state.st_dev, state.st_ino))
                sizes[entry.name] += state.st_size
    return sizes
