"""`shortlist index update`: add, change and delete items of the live index without a rebuild."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from indexing.bundle.bundle import Bundle
from indexing.bundle.releases import Release
from indexing.version.embedding_cache import Places, find_vectors, gather, text_sources
from indexing.version.hash_index import Hashes, hash_keys
from indexing.version.index_version import IndexVersion
from indexing.version.segments import Upserts, append_segment, write_segment
from retrieval.data.audit import FileAudit
from retrieval.data.check_report import FileReport
from retrieval.data.items import ITEM_IDS, is_parquet, item_ids_of_lines, read_item_ids, read_items
from retrieval.data.patches import open_patch, patched, read_patch
from retrieval.data.rejected import RejectedRows
from retrieval.data.schema import CONTRACT, ITEMS, ParquetSource, open_file
from retrieval.errors import BadBundle, BadConfig, BadData
from retrieval.text.rendering import item_texts
from retrieval.topk import Rows, Vectors
from retrieval.towers.serving import Towers
from serving.answering.release_settings import ReleaseSettings
from serving.jobs.bundle_parts import encode_with_progress
from serving.jobs.work_folder import REJECTED
from serving.settings import read_settings

LISTED = 20  # unknown ids that are shown
LARGE = 0.2  # share of the items; with more updated rows searches slow down so much that a build is due


@dataclass(frozen=True)
class Updated:
    """What an update did. `number` counts the updates since the index was built; 0 where nothing has ever changed."""

    release: str
    number: int
    upserted: int
    new: int  # of those, items that the index did not have
    embedded: int  # of those, items whose text went through the encoder
    deleted: int
    unknown: int  # ids to delete that are not, or no longer, in the index
    set_aside: int  # invalid rows of all files
    not_patched: tuple[str, ...] = ()  # ids of the patch that the index does not have

    def to_dict(self) -> dict[str, object]:
        """As JSON."""
        return asdict(self)


@dataclass(frozen=True, kw_only=True)
class Update:
    """The files of an update: new and changed items with the columns of items.parquet; the ids of items to delete, as
    parquet with item_id, as CSV or as text, one per line; and a patch, parquet or CSV of item_id and columns to change
    of items that are there. `max_bad` is the largest share of bad rows in each file."""

    upsert: Path | None
    delete: Path | None
    max_bad: float
    patch: Path | None = None

    def apply(self, bundle: Bundle, *, device: str, say: Callable[[str], None]) -> Updated:
        """Append the update to the live index, where running engines find it.

        An item is replaced whole, except for columns that the file lacks: they keep their values, and are null for a
        new item. A patch replaces the columns that it has, of items that are there, where it has a value; other ids are
        listed. Texts that were embedded before are not embedded again. Item columns are not updated;
        `IndexVersion.as_built` tells for which rows they still hold. Bad rows are written to the bundle's
        rejected.parquet. Raises BadConfig without any file, BadData for a file that cannot be used, BadBundle where the
        towers cannot make the vectors or another process is writing.
        """
        if self.upsert is None and self.delete is None and self.patch is None:
            raise BadConfig("there is nothing to update: give --upsert FILE, --patch FILE or --delete FILE")
        if self.upsert is not None and self.patch is not None:
            raise BadConfig("--upsert and --patch cannot be given together; run the one, then the other")
        with bundle.lock():
            release = bundle.current()
            version = IndexVersion.open(bundle.path_of("index", release.index), device="cpu").updated()
            items, doomed, set_aside = self._read(bundle.path / REJECTED, version, say)
            items, strange = (items, ()) if self.patch is None else self._patched(items, version, say)
            made = None if items is None else self._made(bundle, release, version, items, device)
            upserts = None if made is None else made.upserts
            upserted = version.rows_of([] if upserts is None else upserts.items["item_id"].to_pylist())
            gone = version.held(doomed)
            if upserts is not None or gone:
                with bundle.stage("delta") as folder:
                    write_segment(folder, upserts, gone)
                    append_segment(version.folder, folder, version.revision + 1)
                version = version.updated()
        for note in _notes(version):
            say(note)
        return Updated(
            release=release.id,
            number=version.revision,
            upserted=len(upserted),
            new=int(np.count_nonzero(upserted < 0)),
            embedded=0 if made is None else made.embedded,
            deleted=len(gone),
            unknown=len(doomed) - len(gone),
            set_aside=set_aside,
            not_patched=tuple(strange),
        )

    def _read(
        self, rejected: Path, version: IndexVersion, say: Callable[[str], None]
    ) -> tuple[pa.Table | None, list[str], int]:
        """The items to upsert or the patch, the ids to delete, and how many rows of all files were rejected."""
        reports: list[FileReport] = []
        items, ids = None, list[str]()
        with RejectedRows(rejected) as aside:
            if self.upsert is not None:
                audit = self._audit(open_file(self.upsert, CONTRACT[ITEMS]), aside)
                items = read_items(audit)
                reports.append(audit.report())
            if self.patch is not None:
                audit = self._audit(open_patch(self.patch, version.items.schema), aside)
                items = read_patch(audit)
                reports.append(audit.report())
            if self.delete is not None and is_parquet(self.delete):
                audit = self._audit(open_file(self.delete, ITEM_IDS), aside)
                ids = read_item_ids(audit)
                reports.append(audit.report())
            elif self.delete is not None:
                ids = item_ids_of_lines(self.delete)
            for report in reports:
                for line in report.lines():
                    say(line)
                report.raise_if_refused()
            if items is not None:
                _refuse_both(items, ids, f"{self.upsert or self.patch} and {self.delete}")
        return items, ids, sum(report.rows - report.kept for report in reports)

    def _audit(self, source: ParquetSource, aside: RejectedRows) -> FileAudit:
        return FileAudit(source=source, max_bad=self.max_bad, max_unknown=0.0, rejected=aside)

    def _patched(
        self, patch: pa.Table | None, version: IndexVersion, say: Callable[[str], None]
    ) -> tuple[pa.Table | None, Sequence[str]]:
        """The items that a patch changes, whole, or None; and the ids that the index does not have."""
        assert patch is not None, "a patch was read"
        ids = patch["item_id"].to_pylist()
        there = set(version.held(ids))
        known = pa.array([item in there for item in ids], pa.bool_())
        strange = [item for item in ids if item not in there]
        if strange:
            say(f"{self.patch}: {len(strange):,} items are not in the index: {_listed(strange)}")
        patch = patch.filter(known)
        before = version.items_at(version.rows_of(patch["item_id"].to_pylist()))
        return (patched(patch, before, str(self.patch)) if patch.num_rows else None), strange

    def _made(self, bundle: Bundle, release: Release, version: IndexVersion, items: pa.Table, device: str) -> Made:
        if ReleaseSettings.of(release).item_vectors == "given" or version.text_vectors is None:
            if self.patch is not None:
                return with_same_vectors(items, version)
            raise BadBundle(
                f"{bundle.path}: the item vectors of release {release.id} were supplied from outside and cannot be "
                "computed here; run: shortlist adopt with --vectors for all items"
            )
        folder, cache = bundle.path_of("towers", release.towers), bundle.path / "runtime" / release.towers
        towers = Towers.open(folder, device=device, precision=_precision(release), cache=cache)
        return make_upserts(completed(items, version, str(self.upsert)), version, towers)


def _precision(release: Release) -> str:
    """The precision in which the catalogue's texts were embedded."""
    return read_settings(base=ReleaseSettings.of(release).config).retrieval.precision


class Made(NamedTuple):
    """Items ready for the index, and how many of their texts were embedded."""

    upserts: Upserts
    embedded: int


def make_upserts(items: pa.Table, version: IndexVersion, towers: Towers) -> Made:
    """Compute the vectors of items that have every attribute of the version.

    Raises BadData, naming the item, for a vector that is not finite.
    """
    texts = item_texts(items)
    hashes = hash_keys(texts)
    vectors, new = known_texts(hashes, version, towers)
    if len(new):
        vectors[new] = encode_with_progress(towers)([texts[row] for row in new.tolist()])
    readings = np.asarray(towers.item.vectors(vectors, items), np.float32)
    bad = np.flatnonzero(~np.isfinite(readings).all(axis=1))
    if len(bad):
        raise BadData(f"the vector of item {items['item_id'][int(bad[0])]} holds nan or infinity; check the model")
    return Made(Upserts(items, readings, vectors, hashes), len(new))


def with_same_vectors(items: pa.Table, version: IndexVersion) -> Made:
    """Items of a version, changed, with the vectors that they have."""
    width = 0 if version.text_vectors is None else version.text_vectors.shape[1]
    readings = version.readings_at(version.rows_of(items["item_id"].to_pylist()))
    nothing = np.zeros((items.num_rows, width), np.float32)
    return Made(Upserts(items, readings, nothing, hash_keys(item_texts(items))), 0)


def known_texts(hashes: Hashes, version: IndexVersion, towers: Towers) -> tuple[Vectors, Rows]:
    """Text vectors float32 [n, text_dim], filled in for texts that the build or an update embedded, and the positions
    of the others."""
    vectors = np.zeros((len(hashes), towers.config.text_dim), np.float32)
    sources = text_sources(version, towers.encoder.fingerprint)
    places = find_vectors(hashes, sources)
    known = np.flatnonzero(places.found)
    if len(known):
        vectors[known] = gather(Places(places.source[known], places.row[known]), sources)
    return vectors, np.flatnonzero(~places.found)


def completed(items: pa.Table, version: IndexVersion, path: str) -> pa.Table:
    """Items with the columns and types of a version; columns that the file lacks keep their values, or are null.

    Raises BadData, naming the column, for one that the version does not have or has as another type.
    """
    schema = version.items.schema
    further = [name for name in items.column_names if name not in schema.names]
    if further:
        raise BadData(
            f"{path}: the index has no column {further[0]}; it has: {', '.join(schema.names)}; drop it, or build "
            "the index again with it"
        )
    rows, columns = version.rows_of(items["item_id"].to_pylist()), []
    for field in schema:
        if field.name not in items.column_names:
            columns.append(version.values_at(field.name, rows))
            continue
        try:
            columns.append(items[field.name].cast(field.type))
        except pa.ArrowException as error:
            found = items.schema.field(field.name).type
            raise BadData(
                f"{path}: column {field.name} is {found}, the index has it as {field.type}; cast it"
            ) from error
    return pa.table(columns, schema=schema)


def _notes(version: IndexVersion) -> list[str]:
    """Advice to build the index again, where updates are many."""
    n = 0 if version.delta is None else len(version.delta.readings)
    if n <= LARGE * version.items.num_rows:
        return []
    return [f"note: every search scans the {n:,} items of all updates; build the index again soon"]


def _listed(ids: Sequence[str]) -> str:
    return ", ".join(ids[:LISTED]) + (f" and {len(ids) - LISTED:,} more" if len(ids) > LISTED else "")


def _refuse_both(items: pa.Table, doomed: list[str], paths: str) -> None:
    both = set(items["item_id"].to_pylist()).intersection(doomed)
    if both:
        raise BadData(f"{paths} both name {len(both):,} items (such as {min(both)}); name each in one of them")
