"""What there is to say of a bundle and its releases, to people and to whatever watches over them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from indexing.bundle.bundle import Bundle
from indexing.bundle.manifest import Json, JsonMap
from indexing.bundle.releases import Release
from indexing.version.segments import segment_counts
from retrieval.errors import BadBundle

FIGURE = "ndcg@10"
TASKS: Mapping[str, tuple[str, ...]] = {
    "recommend": ("recommend", "seen_removed"),
    "search": ("search",),
}  # where the evaluation of a release has each task


@dataclass(frozen=True)
class ReleaseLine:
    """A release in a line. `items`, `kind` and `recall` are those of its index as it was built, None where its folder
    is gone or damaged. `figures` are nDCG@10 of the last stage, by task, of a release that was evaluated. `refused_by`
    are the gates that kept it from being published."""

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
    parts: Mapping[str, str]


@dataclass(frozen=True)
class Status:
    """What a bundle holds now.

    `since` is when the live release became live, empty where that was not recorded. `updates` were appended to its
    index since it was built, with so many items `upserted` and ids `deleted`. `writer` is the process that writes now.
    `staging` are the bytes of what lies in .staging, by name: what the writer has in hand, or a dead one left.
    `bytes` are those of all files by the folder at the bundle's root, a file of several names counted once.
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
    """What a bundle holds now. Raises BadBundle where no release is live, CorruptBundle where the live one is damaged,
    as far as opening looks."""
    live = bundle.current()
    updates, upserted, deleted = segment_counts(bundle.path_of("index", live.index))
    way = bundle.rollback_path()
    since = [move.at for move in bundle.moves() if move.release == live.id]
    return Status(
        live=_version(bundle, live, live.id),
        since=since[-1] if since else "",
        rollback_to=way[-2] if len(way) > 1 else None,
        updates=updates,
        upserted=upserted,
        deleted=deleted,
        releases=len(bundle.releases()),
        writer=bundle.writer(),
        staging=_sizes(bundle.path / ".staging"),
        bytes=_sizes(bundle.path),
    )


def releases_of(bundle: Bundle) -> list[ReleaseLine]:
    """Every recorded release, the oldest first."""
    live = bundle.current_id()
    return [_version(bundle, release, live) for release in bundle.releases()]


def _version(bundle: Bundle, release: Release, live: str | None) -> ReleaseLine:
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
        parts=release.parts(),
    )


def _refused(gate: Json) -> bool:
    return isinstance(gate, dict) and gate.get("passed") is False and not gate.get("overruled")


def _figures(release: Release) -> dict[str, float]:
    found = {
        task: _at(release.figures, "evaluation", *place, "stages", "final", FIGURE) for task, place in TASKS.items()
    }
    return {task: figure for task, figure in found.items() if isinstance(figure, float)}


def _at(value: Json, *names: str) -> Json:
    for name in names:
        value = value.get(name) if isinstance(value, dict) else None
    return value


def _sizes(folder: Path) -> dict[str, int]:
    """The bytes below each entry of a folder, by name; of a file of several names only the first counts."""
    seen, sizes = set[tuple[int, int]](), dict[str, int]()
    for entry in sorted(folder.iterdir()) if folder.is_dir() else ():
        sizes[entry.name] = 0
        for path in (entry, *entry.rglob("*")):
            try:
                state = path.lstat()
            except FileNotFoundError:  # a writer is at work
                continue
            if path.is_file() and (state.st_dev, state.st_ino) not in seen:
                seen.add((state.st_dev, state.st_ino))
                sizes[entry.name] += state.st_size
    return sizes
