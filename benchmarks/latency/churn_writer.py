"""What a process of its own does to a bundle while engines answer from it: releases, updates of items, rules."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import redirect_stderr
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from io import StringIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.latency.churn_checks import Activation, History, Revised, RulesWritten
from indexing.bundle.atomic_files import replace_file
from indexing.bundle.bundle import Bundle
from indexing.bundle.manifest import MANIFEST
from indexing.bundle.releases import KINDS, Release, release_id
from indexing.bundle.verify import DELTA
from indexing.version.index_version import IndexVersion
from serving.internals import RULES_FILE, Update

AT_ONCE = 40  # items of an update
RULES = 'version = "{version}"\n[[rule]]\nname = "out of sale"\nkind = "block"\nitems = ["{item}"]\n'


class Plan(NamedTuple):
    """How often what is done, evenly over so many seconds. `changed` are the ids of the items that updates are about,
    in their order, round by round; `blocked` one item for each writing of the rules."""

    seconds: float
    publishes: int
    updates: int
    reloads: int
    changed: Sequence[str]
    blocked: Sequence[str]


def copied_bundle(source: Path, folder: Path) -> Bundle:
    """A new bundle in a folder with the live release of another, as it was built, without recorded events and rules."""
    live, bundle = Bundle.open(source).current(), Bundle.create(folder)
    for kind, name in live.parts().items():
        shutil.copytree(source / kind / name, folder / kind / name, ignore=shutil.ignore_patterns(DELTA))
        if (derived := source / "runtime" / name).is_dir():
            shutil.copytree(derived, folder / "runtime" / name)
    bundle.publish(live)
    return bundle


def write(folder: Path, plan: Plan) -> History:
    """Does what is planned to the bundle in a folder, without a word of progress, for as long as is planned at least;
    returns what was done when."""
    with redirect_stderr(StringIO()), TemporaryDirectory(dir=folder.parent) as scratch:
        writer = _Writer.of(Bundle.open(folder), plan, Path(scratch))
        begun = time.monotonic()
        for due, act in sorted(writer.actions(), key=lambda one: one[0]):
            time.sleep(max(0.0, begun + due * plan.seconds - time.monotonic()))
            act()
        time.sleep(max(0.0, begun + plan.seconds - time.monotonic()))
    return writer.history


@dataclass
class _Writer:
    """Does the single things, and notes them in `history`."""

    bundle: Bundle
    plan: Plan
    scratch: Path
    items: pa.Table  # as built, of the plan's items
    history: History = field(default_factory=History)
    _titles: dict[str, dict[str, str | None]] = field(default_factory=dict)  # now, by index and item
    _revision: dict[str, int] = field(default_factory=dict)
    _published: str = ""  # the release that was published last

    @classmethod
    def of(cls, bundle: Bundle, plan: Plan, scratch: Path) -> _Writer:
        """Before anything was done."""
        live = bundle.current()
        version = IndexVersion.open(bundle.path_of("index", live.index), device="cpu")
        items = version.items_at(version.rows_of(list(plan.changed)))
        return cls(bundle, plan, scratch, items)

    def actions(self) -> Iterator[tuple[float, Callable[[], object]]]:
        """What is to be done, each with the share of the time after which it is."""
        moves = (self.publish_copy, self.publish_same, self.rollback, self.activate)
        for at in range(self.plan.publishes):
            yield (at + 0.5) / self.plan.publishes, partial(moves[at % len(moves)], at)
        batches = -(-self.plan.updates // AT_ONCE)
        for at in range(batches):
            n = min(AT_ONCE, self.plan.updates - at * AT_ONCE)
            yield (at + 0.4) / batches, partial(self.update, at, n)
        for at in range(self.plan.reloads):
            yield (at + 0.3) / self.plan.reloads, partial(self.write_rules, at)

    def publish_copy(self, at: int) -> None:
        """A release of another index with the items as built, which updates of the former do not reach."""
        live = self.bundle.current()
        names = {live.index: f"{live.index.partition('-')[0]}-{at}"}
        copied = {"index": names[live.index]}
        self._copy("index", live.index, names)
        for kind in KINDS:
            part = getattr(live, kind)
            if part is not None and self.bundle.manifest(kind, part).requires.get("index") == live.index:
                names[part] = copied[kind] = f"{part.partition('-')[0]}-{at}"
                self._copy(kind, part, names)
        self._publish(at, replace(live, **copied))  # type: ignore[arg-type]

    def publish_same(self, at: int) -> None:
        """Another release of the same parts."""
        self._publish(at, self.bundle.current())

    def rollback(self, at: int) -> None:
        """Back to the release before."""
        self._became_live(lambda: self.bundle.rollback(who="bench churn"))

    def activate(self, at: int) -> None:
        """The release that was published last again."""
        self._became_live(lambda: self.bundle.activate(self._published, who="bench churn"))

    def update(self, at: int, n: int) -> None:
        """Changes the prices of some items, then their titles, deletes them, and adds them again as they were."""
        acts = (self._prices, self._retitled, self._deleted, self._added)
        ids = self.items["item_id"]
        first = (at // len(acts)) * AT_ONCE % max(1, len(ids) - n + 1)
        update, titles = acts[at % len(acts)](self.items.slice(first, n), at)
        index = self.bundle.current().index
        there = self._titles.setdefault(index, {})
        if not update.delete and not update.upsert:  # a patch leaves out what is deleted
            titles = {item: title for item, title in titles.items() if there.get(item, "") is not None}
        begun = time.monotonic()
        number = update.apply(self.bundle, device="cpu", say=lambda _: None).number
        if number > self._revision.get(index, 0):
            self.history.revisions.append(Revised(begun, time.monotonic(), index, number, titles))
            self._revision[index] = number
            there.update(titles)

    def write_rules(self, at: int) -> None:
        """Rules that block another item than those before."""
        version, item = f"churn-{at}", self.plan.blocked[at]
        text = RULES.format(version=version, item=item.replace("\\", "\\\\").replace('"', '\\"'))
        begun = time.monotonic()
        replace_file(self.bundle.path / RULES_FILE, text.encode(), scratch=self.scratch / RULES_FILE)
        self.history.rules.append(RulesWritten(begun, time.monotonic(), version, item))

    def _publish(self, at: int, like: Release) -> None:
        created = datetime.now(UTC).isoformat(timespec="microseconds")
        release = replace(
            like, id=release_id(created, str(at)), created=created, figures={**like.figures, "churn": at},
            who="bench churn", why="bench churn",
        )  # fmt: skip
        self._became_live(lambda: self.bundle.publish(release))
        self._published = release.id

    def _became_live(self, move: Callable[[], Release]) -> None:
        begun = time.monotonic()
        release = move()
        self.history.activations.append(Activation(begun, time.monotonic(), release.id, release.index))

    def _copy(self, kind: str, part: str, names: dict[str, str]) -> None:
        """A part under its new name, that requires the new names of others; its files are links to those before."""
        source, manifest = self.bundle.path_of(kind, part), self.bundle.manifest(kind, part)
        with self.bundle.stage(kind) as folder:
            shutil.copytree(source, folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns(DELTA, MANIFEST))
            requires = {needed: names.get(name, name) for needed, name in manifest.requires.items()}
            self.bundle.add(kind, names[part], folder, requires=requires, about=manifest.about, like=source)

    def _prices(self, items: pa.Table, at: int) -> tuple[Update, dict[str, str | None]]:
        if "price" not in items.column_names:
            return self._retitled(items, at)
        prices = pa.array([1.0 + (at + row) % 100 for row in range(items.num_rows)], items.schema.field("price").type)
        return self._file(pa.table({"item_id": items["item_id"], "price": prices}), "patch"), {}

    def _retitled(self, items: pa.Table, at: int) -> tuple[Update, dict[str, str | None]]:
        titles = [f"{title} {at}" for title in items["title"].to_pylist()]
        made = self._file(pa.table({"item_id": items["item_id"], "title": pa.array(titles, pa.string())}), "patch")
        return made, dict(zip(items["item_id"].to_pylist(), titles, strict=True))

    def _deleted(self, items: pa.Table, at: int) -> tuple[Update, dict[str, str | None]]:
        return self._file(items.select(["item_id"]), "delete"), dict.fromkeys(items["item_id"].to_pylist())

    def _added(self, items: pa.Table, at: int) -> tuple[Update, dict[str, str | None]]:
        titles = zip(items["item_id"].to_pylist(), items["title"].to_pylist(), strict=True)
        return self._file(items, "upsert"), dict(titles)

    def _file(self, table: pa.Table, what: str) -> Update:
        path = self.scratch / f"{what}.parquet"
        pq.write_table(table, path)
        files = {"upsert": None, "delete": None, "patch": None, what: path}
        return Update(upsert=files["upsert"], delete=files["delete"], patch=files["patch"], max_bad=0.0)
