"""The bundle on disk: immutable parts, releases that name them, and one file that names the live release.

    bundle/
      CURRENT                        name of the live release, replaced atomically
      LOCK                           the writer lock, never deleted
      activations.jsonl              the log of live releases, one line a change of CURRENT
      releases/<id>.json             see Release
      towers/<name>/                 immutable, with manifest.json; likewise the other kinds of parts
      runtime/<name>/                derived files, may be deleted
      .staging/                      unfinished files of a writer; emptied by the next writer

A part is written below .staging, given its manifest, synced and renamed into place, and so is a release; only then is
CURRENT replaced. So a job that is killed at any instruction leaves the live release as it was. Readers take no lock and
write nothing: they open the release that CURRENT names, and keep it open.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from indexing.bundle.activation_log import Move, MoveKind, read_moves, record_move, rollback_path
from indexing.bundle.atomic_files import replace_file, sync, sync_tree, writing_to
from indexing.bundle.manifest import MANIFEST, JsonMap, Manifest, file_sum, file_sums
from indexing.bundle.releases import KINDS, Release, check_name, require_coherent
from indexing.bundle.verify import Check, Verification, as_opened, as_written, verification
from indexing.bundle.writer_lock import WriterLock
from retrieval.errors import BadBundle, CorruptBundle

CURRENT = "CURRENT"
ACTIVATIONS = "activations.jsonl"


class Bundle:
    """A folder of releases. `path` is its root; use `create` or `open`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = WriterLock(path / "LOCK")

    @classmethod
    def create(cls, path: Path) -> Bundle:
        """Open the bundle at `path`, creating it if needed; raises BadBundle where the folder holds other files or
        cannot be written."""
        path = Path(path)
        with writing_to(path):
            path.mkdir(parents=True, exist_ok=True)
            if not (path / "releases").is_dir() and any(path.iterdir()):
                raise BadBundle(f"{path} holds other files and is no bundle; choose an empty or a new folder")
            for name in ("releases", ".staging", *KINDS):
                (path / name).mkdir(exist_ok=True)
            sync(path)
        return cls(path)

    @classmethod
    def open(cls, path: Path) -> Bundle:
        """Open the bundle at `path`; raises BadBundle where there is none."""
        path = Path(path)
        if not (path / "releases").is_dir():
            raise BadBundle(f"there is no bundle at {path}; make one with: shortlist run {path} --data DATA")
        return cls(path)

    # reading

    def current_id(self) -> str | None:
        """The name of the live release, None before the first; raises CorruptBundle where CURRENT cannot be read."""
        try:
            name = (self.path / CURRENT).read_text("ascii").strip()
        except FileNotFoundError:
            return None
        except (OSError, UnicodeDecodeError) as error:
            raise CorruptBundle(f"{self.path / CURRENT} cannot be read ({error}); activate a release again") from error
        return check_name(name, str(self.path / CURRENT))

    def current(self) -> Release:
        """The live release, see `open_release`; raises BadBundle before the first."""
        return self.open_release(self._live_name())

    def open_release(self, name: str) -> Release:
        """A release that can be served: its parts are undamaged, as far as `as_opened` of `indexing.bundle.verify`
        checks, and belong together. Raises CorruptBundle or StaleArtefact, naming the part."""
        release = self.release(name)
        self._verification(release, as_opened).require_sound()
        require_coherent(release, self._manifests(release), self.path)
        return release

    def release(self, name: str) -> Release:
        """A release as recorded, without a check of its parts; raises BadBundle where there is none of that name."""
        path = self._release_path(name)
        if not path.exists():
            known = ", ".join(sorted(one.stem for one in path.parent.glob("*.json"))) or "none"
            raise BadBundle(f"{self.path} has no release {name}; it has: {known}")
        return Release.read(path)

    def is_recorded(self, name: str) -> bool:
        """Whether there is a release of a name."""
        return self._release_path(name).exists()

    def releases(self) -> list[Release]:
        """All recorded releases, oldest first."""
        found = [Release.read(path) for path in (self.path / "releases").glob("*.json")]
        return sorted(found, key=lambda release: (release.created, release.id))

    def path_of(self, kind: str, name: str) -> Path:
        """The folder of a part; raises BadBundle where it is missing."""
        path = self._part_path(kind, name)
        if not path.is_dir():
            raise BadBundle(f"{path} is missing; restore it from a copy or build again")
        return path

    def has(self, kind: str, name: str) -> bool:
        """Whether the bundle has a part of that kind and name."""
        return self._part_path(kind, name).is_dir()

    def manifest(self, kind: str, name: str) -> Manifest:
        """The manifest of a part; raises BadBundle or CorruptBundle."""
        return Manifest.read(self.path_of(kind, name))

    def runtime(self, name: str) -> Path | None:
        """The folder of derived files of that name, None where there is none."""
        path = self._part_path("runtime", name)
        return path if path.is_dir() else None

    def verify(self, name: str | None = None) -> Verification:
        """Compare every file of a release (by default the live one) with its checksum."""
        return self.verification(self.release(self._live_name() if name is None else name))

    def verification(self, release: Release) -> Verification:
        """Compare every file of a release, which need not be recorded, with its checksum."""
        return self._verification(release, as_written)

    def writer(self) -> int | None:
        """The id of the process that writes to the bundle now, None where none does; see `WriterLock.holder`."""
        return self._lock.holder()

    def moves(self) -> list[Move]:
        """The logged changes of the live release, oldest first; the last may not have been made."""
        return read_moves(self.path / ACTIVATIONS)

    def rollback_path(self) -> list[str]:
        """The recorded releases that successive rollbacks lead to, the farthest first, and the live release last."""
        recorded = {release.id: release.parent for release in self.releases()}
        path = rollback_path(self.moves(), self.current_id(), recorded.get)
        return [name for name in path if name in recorded]

    # writing

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the writer lock, and clear .staging of a dead writer's files; raises BadBundle where the lock is
        taken."""
        nested = self._lock.held
        with self._lock:
            if not nested:
                self._clear_staging()
            yield

    @contextmanager
    def stage(self, kind: str) -> Iterator[Path]:
        """An empty folder to write a part in, under the writer lock; removed at the end unless `add` moved it."""
        with self.lock():
            with writing_to(self.path):
                made = tempfile.mkdtemp(prefix=f"{kind}-", dir=self.path / ".staging")
                folder = self.path / ".staging" / Path(made).name  # from Python 3.12 on, `made` is absolute
                folder.chmod(0o755)
            try:
                with writing_to(self.path):
                    yield folder
            finally:
                shutil.rmtree(folder, ignore_errors=True)

    def add(
        self,
        kind: str,
        name: str,
        folder: Path,
        *,
        requires: Mapping[str, str] | None = None,
        about: JsonMap | None = None,
        like: Path | None = None,
    ) -> Path:
        """Move a staged folder into place as part `kind`/`name`, with checksums; returns its path.

        An existing part of that name is kept, if it is undamaged, as names are fingerprints of contents. Files that
        equal those of the part at `like` become hard links to them. A folder that was not staged here is copied.
        Raises CorruptBundle where the existing part is damaged, BadBundle where the disk refuses.
        """
        final = self._part_path(kind, name)
        with self.lock(), writing_to(self.path):
            if final.exists():
                verification(f"{kind}/{name}", {final: None}).require_sound()
                return final
            if folder.parent != self.path / ".staging":
                with self.stage(kind) as copy:
                    shutil.copytree(folder, copy, dirs_exist_ok=True)
                    return self.add(kind, name, copy, requires=requires, about=about, like=like)
            manifest = Manifest(
                kind=kind, name=name, files=file_sums(folder), requires=requires or {}, about=about or {}
            )
            if like is not None:
                _link_unchanged(folder, manifest, like)
            (folder / MANIFEST).write_bytes(manifest.to_json())
            sync_tree(folder)
            final.parent.mkdir(exist_ok=True)
            folder.rename(final)
            sync(final.parent)
        return final

    def link_files(self, kind: str, name: str, folder: Path, *, without: Collection[str] = ()) -> None:
        """Hard-link the files of a part, except those in `without`, into a staged folder."""
        part = self.path_of(kind, name)
        for file in sorted(Manifest.read(part).files.keys() - set(without)):
            (folder / file).parent.mkdir(exist_ok=True)
            os.link(part / file, folder / file)

    def keep_runtime(self, name: str, folder: Path) -> Path:
        """Move a staged folder of derived files to runtime/`name`; an existing one is kept. Returns its path."""
        final = self._part_path("runtime", name)
        with self.lock(), writing_to(self.path):
            final.parent.mkdir(exist_ok=True)
            if not final.exists():
                sync_tree(folder)
                folder.rename(final)
                sync(final.parent)
        return final

    def record(self, release: Release) -> Release:
        """Record a release without making it live; returns it with `parent` and `manifests` filled in.

        Raises BadBundle where the name is taken or a part is missing, StaleArtefact where parts do not belong together.
        """
        path = self._release_path(release.id)
        with self.lock(), writing_to(self.path):
            if path.exists():
                raise BadBundle(f"{path} is there already; give the release another id")
            manifests = self._manifests(release)
            require_coherent(release, manifests, self.path)
            named = {f"{kind}/{name}": self.path_of(kind, name) / MANIFEST for kind, name in release.parts().items()}
            sums = {name: file_sum(manifest).sha256 for name, manifest in named.items()}
            release = replace(release, parent=self.current_id(), manifests=sums)
            replace_file(path, release.to_json(), scratch=self.path / ".staging" / f"release-{release.id}")
        return release

    def activate(self, name: str, *, who: str = "", at: str = "") -> Release:
        """Make a recorded release live after comparing all its files; raises CorruptBundle or StaleArtefact.

        `who` and `at`, an ISO 8601 time, are logged.
        """
        return self._make_live(name, "activate", who, at)

    def publish(self, release: Release) -> Release:
        """Record a release and make it live; raises what `record` and `activate` raise."""
        with self.lock():
            recorded = self.record(release)
            return self._make_live(recorded.id, "publish", recorded.who, recorded.created)

    def rollback(self, *, who: str = "", at: str = "") -> Release:
        """Make the release live that was live before; raises BadBundle where there was none or it was pruned."""
        with self.lock():
            live, path = self._live_name(), self.rollback_path()
            if len(path) < 2:
                raise BadBundle(
                    f"{self.path} holds no release that was live before {live}: there is none to go back to; "
                    "activate one by its name"
                )
            return self._make_live(path[-2], "rollback", who, at)

    # internal

    def _make_live(self, name: str, how: MoveKind, who: str, at: str) -> Release:
        with self.lock(), writing_to(self.path):
            release = self.release(name)
            self._verification(release, as_written).require_sound()
            require_coherent(release, self._manifests(release), self.path)
            try:
                before = self.current_id()
            except CorruptBundle:
                before = None
            if before != name:
                record_move(self.path / ACTIVATIONS, Move(name, before, how, who, at))
                scratch = self.path / ".staging" / CURRENT
                replace_file(self.path / CURRENT, f"{name}\n".encode("ascii"), scratch=scratch)
        return release

    def _live_name(self) -> str:
        name = self.current_id()
        if name is None:
            raise BadBundle(f"{self.path} has no live release; run: shortlist run {self.path} --data DATA")
        if not self._release_path(name).exists():
            raise CorruptBundle(f"{self.path / CURRENT} names {name}, which is not in releases/; activate one that is")
        return name

    def _part_path(self, kind: str, name: str) -> Path:
        if kind not in (*KINDS, "runtime"):
            raise ValueError(f"a bundle holds no {kind}; it holds {', '.join(KINDS)}")
        return self.path / kind / check_name(name, str(self.path / kind))

    def _release_path(self, name: str) -> Path:
        return self.path / "releases" / f"{check_name(name, str(self.path / 'releases'))}.json"

    def _manifests(self, release: Release) -> dict[str, Manifest]:
        return {kind: self.manifest(kind, name) for kind, name in release.parts().items()}

    def _verification(self, release: Release, check: Check) -> Verification:
        parts = {self._part_path(kind, name): f"{kind}/{name}" for kind, name in release.parts().items()}
        pinned = {folder: release.manifests.get(name) for folder, name in parts.items()}
        return verification(f"release {release.id}", pinned, check)

    def _clear_staging(self) -> None:
        staging = self.path / ".staging"
        with writing_to(self.path):
            staging.mkdir(exist_ok=True)
            for path in staging.iterdir():
                shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()


def _link_unchanged(folder: Path, manifest: Manifest, like: Path) -> None:
    before = Manifest.read(like).files
    for name, file in manifest.files.items():
        if before.get(name) == file and file_sum(like / name) == file:
            scratch = folder / f"{name}.link"
            os.link(like / name, scratch)
            scratch.replace(folder / name)
