"""Builds an index version from items and the models that embed them, part by part; adds columns to an existing one.

Memory holds the hashes of all texts, the vectors of one part and the index itself, and no more. Text vectors are stored
apart from the final ones, so that an item whose rendered text is unchanged under the same text encoder is not embedded
again, even where its price changed. New text vectors are saved in parts (see `indexing.version.embedding_cache`), from
which a killed job continues.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, TypeAlias

import numpy as np
import pyarrow as pa

from indexing.bundle.atomic_files import write_npy
from indexing.bundle.bundle import Bundle
from indexing.bundle.manifest import FileSum, JsonMap, dump_json, file_sums
from indexing.tuning.build_index import RECALL_AT, RECALL_TARGET, TIMED_ENTRIES, write_index
from indexing.tuning.tuner import Progress
from indexing.version.embedding_cache import PartStore, TextSource, find_vectors, first_of_each, gather, text_sources
from indexing.version.hash_index import Hashes, HashIndex, hash_keys
from indexing.version.index_version import (
    COLUMNS,
    FAISS_FILE,
    ID_FIRST,
    ID_HASHES,
    ID_ROWS,
    ITEMS,
    TEXT_HASHES,
    TEXT_VECTORS,
    VECTORS,
    IndexVersion,
)
from indexing.version.item_columns import PART, ItemColumn, write_column, write_table
from indexing.version.segments import has_segment
from retrieval.errors import BadData, GateRefused
from retrieval.topk import Rows, Vectors

EMBEDDED_AT_ONCE = 1_024  # texts of a part: the most that a killed job loses
WORK = "work"  # folder of the bundle for unfinished jobs
TEXT_PARTS = "texts"  # its folder of embedded texts, by text encoder

Encode: TypeAlias = Callable[[Sequence[str]], Vectors]
ItemVectors: TypeAlias = Callable[[Vectors, pa.Table], Vectors]


class TextCounts(NamedTuple):
    """Where the text vectors of a build came from, counted in items."""

    reused: int = 0  # from an earlier version, its updates or other given sources
    resumed: int = 0  # from the parts of a job that was killed
    embedded: int = 0  # computed by the text encoder

    def __str__(self) -> str:
        """As text."""
        interrupted = f"{self.resumed:,} embedded by the interrupted job, " if self.resumed else ""
        return f"{self.reused:,} with vectors reused, {interrupted}{self.embedded:,} embedded"


class Built(NamedTuple):
    """The result of a build."""

    name: str  # of the version
    path: Path
    texts: TextCounts
    kind: str  # of the index, a FAISS factory string
    recall: float  # @100 against exact search, on a sample of queries
    items: int

    def require_recall(self, target: float) -> None:
        """Raise GateRefused where the index misses the recall `target`, as a given kind may."""
        if self.recall < target:
            raise GateRefused(
                f"index kind {self.kind!r} reaches recall@{RECALL_AT} {self.recall:.3f} at its highest search "
                f"parameters, {target} is wanted; use another kind, such as Flat or HNSW32_SQ8, or a lower target"
            )

    def line(self) -> str:
        """As text."""
        return f"index {self.name}: {self.items:,} items: {self.texts}; recall@100 {self.recall:.3f}"


def build_version(
    bundle: Bundle,
    *,
    items: pa.Table,
    texts: Sequence[str],
    encode: Encode | None,
    item_vectors: ItemVectors,
    towers: str,
    text_encoder: str,
    factory: str = "auto",
    recall_target: float = RECALL_TARGET,
    memory: int | None = None,
    columns: Sequence[ItemColumn] = (),
    searched: int | None = None,
    previous: IndexVersion | None = None,
    sources: Sequence[TextSource] = (),
    queries: Vectors | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> Built:
    """Build a version and add it to the bundle; nothing becomes live.

    items: a table with item_id, one row per item. texts: the rendered text of each item; equal texts are embedded once.
    encode: from texts to float32 [m, text_dim]; None where there is no text encoder, and `item_vectors` then gets
    arrays of no columns. item_vectors: from text vectors [m, text_dim] and their items to final vectors float32 [m,
    dim]; the first `searched` dimensions are indexed (None: all), the others are stored for reading histories. towers:
    the name of the bundle's towers that `item_vectors` belongs to. text_encoder: its fingerprint; text vectors of
    `previous` are reused if they have the same, and those of `sources` must have it. queries float32 [q, dim]: user
    vectors to measure recall with, else item vectors are taken. factory, recall_target and memory: see `write_index`.
    progress: called with a stage, the items done, and the items in all.

    An index of a given kind may miss the recall target: see `Built.require_recall`. Raises BadData where there is no
    item or a vector is not finite, BadConfig where the index cannot be built, BadBundle where the disk refuses.
    """
    if not items.num_rows or len(texts) != items.num_rows:
        raise BadData(
            f"an index needs at least one item and a text for each; there are {items.num_rows} items, "
            f"{len(texts)} texts"
        )
    report = progress or _silent
    with bundle.stage("index") as folder:
        hashes = _write_hashes(folder, texts, report)
        known = [*sources, *([] if previous is None else text_sources(previous, text_encoder))]
        parts = PartStore(bundle.path / WORK / TEXT_PARTS / text_encoder)
        counts = _write_text_vectors(folder, texts, hashes, encode, known, parts, report)
        vectors = _write_vectors(folder, items, item_vectors, report)
        _write_items(folder, items)
        stored: JsonMap = {column.name: _column_entry(folder, column, items, report) for column in columns}
        found = write_index(
            folder / FAISS_FILE,
            vectors[:, :searched],
            factory=factory,
            recall_target=recall_target,
            memory=memory,
            queries=queries,
            seed=seed,
            report=report,
        )
        report("store", 0, 0)
        about: JsonMap = {"n": items.num_rows, "text_encoder": text_encoder, "columns": stored, **found}
        path = _add_version(bundle, folder, {"towers": towers}, about, like=previous)
    recall = found["recall"]
    reached = recall if isinstance(recall, float) else 1.0
    return Built(path.name, path, counts, str(found["factory"]), reached, items.num_rows)


def with_columns(bundle: Bundle, version: IndexVersion, columns: Sequence[ItemColumn]) -> str | None:
    """Add a copy of a version that also holds these columns, sharing its other files; returns the copy's name.

    Returns the version's own name where it holds all of them, and None where updates were appended to it, which belong
    to that version alone. Nothing becomes live. Raises BadBundle where the disk refuses.
    """
    stored = version.manifest.about.get("columns")
    known = dict(stored) if isinstance(stored, dict) else {}
    missing = [column for column in columns if not _is_stored(known.get(column.name), column)]
    if not missing:
        return version.name
    if has_segment(version.folder, 1):
        return None
    replaced = {str(entry["file"]) for column in missing if isinstance(entry := known.get(column.name), dict)}
    with bundle.stage("index") as folder:
        bundle.link_files("index", version.name, folder, without=replaced)
        for column in missing:
            path = write_column(folder / COLUMNS, column, version.items)
            known[column.name] = {"fingerprint": column.fingerprint, "file": path.relative_to(folder).as_posix()}
        about: JsonMap = {**version.manifest.about, "columns": known}
        return _add_version(bundle, folder, version.manifest.requires, about).name


def _write_hashes(folder: Path, texts: Sequence[str], report: Progress) -> Hashes:
    """Write the hash of each text, uint64 [n, 2], and return them."""
    hashes = np.empty((len(texts), 2), np.uint64)
    for start in range(0, len(texts), PART):
        part = hash_keys(texts[start : start + PART])
        hashes[start : start + PART] = part
        report("fingerprint", start + len(part), len(texts))
    write_npy(folder / TEXT_HASHES, len(hashes), [hashes])
    return hashes


def _write_text_vectors(
    folder: Path,
    texts: Sequence[str],
    hashes: Hashes,
    encode: Encode | None,
    known: Sequence[TextSource],
    parts: PartStore,
    report: Progress,
) -> TextCounts:
    """Embed the texts that neither the known sources nor the saved parts hold, and write the vectors of all; nothing
    without an encoder."""
    if encode is None:
        return TextCounts()
    n = len(hashes)
    before = find_vectors(hashes, known).found
    interrupted = find_vectors(hashes, [*parts.sources()]).found & ~before
    missing = np.flatnonzero(~before & ~interrupted)
    report("reuse", n - len(missing), n)
    wanted = missing[first_of_each(hashes[missing])]
    report("embed", 0, len(wanted))
    for start in range(0, len(wanted), EMBEDDED_AT_ONCE):
        rows = wanted[start : start + EMBEDDED_AT_ONCE]
        parts.add(hashes[rows], encode(_picked(texts, rows)))
        report("embed", start + len(rows), len(wanted))
    sources = [*known, *parts.sources()]
    places = find_vectors(hashes, sources)
    write_npy(folder / TEXT_VECTORS, n, (gather(places.part(start, PART), sources) for start in range(0, n, PART)))
    return TextCounts(int(before.sum()), int(interrupted.sum()), len(missing))


def _picked(texts: Sequence[str], rows: Rows) -> list[str]:
    """The texts at ascending rows; reads `texts` in slices, which may render them."""
    picked: list[str] = []
    for start in range(0, len(texts), PART):
        first, last = np.searchsorted(rows, (start, start + PART)).tolist()
        if first < last:
            block = texts[start : start + PART]
            picked += [block[row - start] for row in rows[first:last].tolist()]
    return picked


def _write_vectors(folder: Path, items: pa.Table, item_vectors: ItemVectors, report: Progress) -> Vectors:
    path = folder / TEXT_VECTORS
    texts = np.load(path, mmap_mode="r") if path.exists() else np.empty((items.num_rows, 0), np.float32)
    write_npy(folder / VECTORS, items.num_rows, _vector_parts(texts, items, item_vectors, report))
    mapped: Vectors = np.load(folder / VECTORS, mmap_mode="r")
    return mapped


def _vector_parts(texts: Vectors, items: pa.Table, item_vectors: ItemVectors, report: Progress) -> Iterator[Vectors]:
    for start in range(0, items.num_rows, PART):
        part = items.slice(start, PART)
        vectors = np.asarray(item_vectors(texts[start : start + PART], part), np.float32)
        bad = np.flatnonzero(~np.isfinite(vectors).all(axis=1))
        if len(bad):
            raise BadData(
                f"the vector of item {part['item_id'][int(bad[0])]} holds nan or infinity; check the towers' model"
            )
        yield vectors
        report("vectors", start + part.num_rows, items.num_rows)


def _write_items(folder: Path, items: pa.Table) -> None:
    write_table(folder / ITEMS, items)
    ids = items["item_id"]
    parts = (ids.slice(start, PART).to_pylist() for start in range(0, len(ids), PART))
    lookup = HashIndex.build(np.concatenate([hash_keys(part) for part in parts]))
    for name, values in ((ID_FIRST, lookup.first), (ID_ROWS, lookup.rows), (ID_HASHES, lookup.hashes)):
        write_npy(folder / name, items.num_rows, [values])


def _column_entry(folder: Path, column: ItemColumn, items: pa.Table, report: Progress) -> JsonMap:
    path = write_column(folder / COLUMNS, column, items)
    report(f"column {column.name}", items.num_rows, items.num_rows)
    return {"fingerprint": column.fingerprint, "file": path.relative_to(folder).as_posix()}


def _add_version(
    bundle: Bundle, folder: Path, requires: Mapping[str, str], about: JsonMap, *, like: IndexVersion | None = None
) -> Path:
    """Add a staged folder to the bundle under a name of its own; files that equal those of `like` are shared."""
    name, about = _own_name(bundle, file_sums(folder), dict(requires), about)
    return bundle.add("index", name, folder, requires=requires, about=about, like=None if like is None else like.folder)


def _own_name(
    bundle: Bundle, files: dict[str, FileSum], requires: dict[str, str], about: JsonMap
) -> tuple[str, JsonMap]:
    """The name of a version, a hash of its contents, and the `about` of its manifest.

    Where a version of the same contents exists and was updated since, `about` counts the rebuild, which changes the
    name, as that version's updates must not apply to this one.
    """
    name, again = _version_name(files, requires, about), 0
    while has_segment(bundle.path / "index" / name, 1):
        again += 1
        about = about | {"again": again}
        name = _version_name(files, requires, about)
    return name, about


def _version_name(files: dict[str, FileSum], requires: dict[str, str], about: JsonMap) -> str:
    sums = {name: file.sha256 for name, file in files.items()}
    about = {name: value for name, value in about.items() if name not in TIMED_ENTRIES}
    return hashlib.sha256(dump_json({"files": sums, "requires": requires, "about": about})).hexdigest()[:16]


def _silent(stage: str, done: int, total: int) -> None:
    pass


def _is_stored(entry: object, column: ItemColumn) -> bool:
    return isinstance(entry, dict) and entry.get("fingerprint") == column.fingerprint
