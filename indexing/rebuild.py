"""Builds an index version from items and the models that embed them, part by part.

Memory does not grow with the catalogue beyond the vectors of one part and the index itself. The vectors of texts are
kept apart from the final ones: an item whose rendered text is unchanged under the same text encoder is not read by the
transformer again, whatever became of its price.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, TypeAlias

import numpy as np
import pyarrow as pa

from indexing.choice import RECALL_TARGET, Progress, write_index
from indexing.columns import PART, ItemColumn, write_column, write_table
from indexing.durable import write_npy
from indexing.lookup import HashIndex, hash_keys
from indexing.manifest import FileSum, JsonMap, dump_json, file_sums
from indexing.segments import has_segment
from indexing.store import Bundle
from indexing.version import (
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
from retrieval.errors import BadData
from retrieval.topk import Rows, Vectors

Encode: TypeAlias = Callable[[Sequence[str]], Vectors]
ItemVectors: TypeAlias = Callable[[Vectors, pa.Table], Vectors]


class Built(NamedTuple):
    """What a build made."""

    name: str  # the version
    path: Path
    embedded: int  # items whose text went through the encoder
    reused: int  # items whose text vector was taken from the previous version
    recall: float  # at 100, against exact search, on a sample; 1 for exact search


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
    columns: Sequence[ItemColumn] = (),
    searched: int | None = None,
    previous: IndexVersion | None = None,
    queries: Vectors | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> Built:
    """Build a version and add it to the bundle; nothing becomes live.

    items: the table with item_id, one row per item. texts: the rendered text of each. encode: texts to float32
    [m, text_dim]; None where there is no text encoder, and `item_vectors` then gets arrays of no columns.
    item_vectors: text vectors [m, text_dim] and those items to the final vectors float32 [m, dim], of which the first
    `searched` numbers are indexed (none: all) and the others kept beside them for reading histories. towers names the
    towers of the bundle that `item_vectors` stands for, text_encoder is the fingerprint under which text vectors of
    `previous` may be taken over. queries float32 [q, dim]: user vectors on which recall is measured, else item vectors.

    Raises BadData where a vector is not finite, BadConfig where the kind of index does not fit, GateRefused where it
    does not reach recall_target, BadBundle where the disk refuses.
    """
    if not items.num_rows or len(texts) != items.num_rows:
        raise BadData(
            f"{items.num_rows} items with {len(texts)} texts: an index needs one text for each of 1 item or more"
        )
    report = progress or _silent
    with bundle.stage("index") as folder:
        embedded, reused = _write_texts(folder, texts, encode, _reusable(previous, text_encoder), report)
        vectors = _write_vectors(folder, items, item_vectors, report)
        _write_items(folder, items)
        stored: JsonMap = {column.name: _stored(folder, column, items, report) for column in columns}
        found = write_index(
            folder / FAISS_FILE,
            vectors[:, :searched],
            factory=factory,
            recall_target=recall_target,
            queries=queries,
            seed=seed,
            report=report,
        )
        about: JsonMap = {"n": items.num_rows, "text_encoder": text_encoder, "columns": stored, **found}
        requires = {"towers": towers}
        name, about = _own_name(bundle, file_sums(folder), requires, about)
        like = None if previous is None else previous.folder
        path = bundle.add("index", name, folder, requires=requires, about=about, like=like)
    recall = found["recall"]
    return Built(name, path, embedded, reused, recall if isinstance(recall, float) else 1.0)


def _write_texts(
    folder: Path, texts: Sequence[str], encode: Encode | None, previous: IndexVersion | None, report: Progress
) -> tuple[int, int]:
    """Write the hash and the vector of each text; returns how many were embedded and how many taken over."""
    hashes = hash_keys(texts)
    write_npy(folder / TEXT_HASHES, len(hashes), [hashes])
    if encode is None:
        return 0, 0
    known = np.full(len(texts), -1) if previous is None else HashIndex.build(previous.text_hashes).find(hashes)
    before = None if previous is None else previous.text_vectors
    write_npy(folder / TEXT_VECTORS, len(texts), _text_parts(texts, encode, known, before, report))
    reused = int(np.count_nonzero(known >= 0))
    return len(texts) - reused, reused


def _text_parts(
    texts: Sequence[str], encode: Encode, known: Rows, before: Vectors | None, report: Progress
) -> Iterator[Vectors]:
    """The text vectors, part by part: from row `known` of those before, or embedded where that is -1."""
    for start in range(0, len(texts), PART):
        rows = known[start : start + PART]
        new = np.flatnonzero(rows < 0)
        made = before[:0] if before is not None and not len(new) else encode([texts[start + i] for i in new.tolist()])
        part = np.empty((len(rows), made.shape[1]), np.float32)
        part[new] = made
        if before is not None:
            part[rows >= 0] = before[rows[rows >= 0]]
        yield part
        report("embed", start + len(rows), len(texts))


def _reusable(previous: IndexVersion | None, text_encoder: str) -> IndexVersion | None:
    if previous is None or previous.text_vectors is None:
        return None
    return previous if previous.manifest.about.get("text_encoder") == text_encoder else None


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
            raise BadData(f"the vector of item {part['item_id'][int(bad[0])]} holds nan or infinity; check the model")
        yield vectors
        report("vectors", start + part.num_rows, items.num_rows)


def _write_items(folder: Path, items: pa.Table) -> None:
    write_table(folder / ITEMS, items)
    lookup = HashIndex.build(hash_keys(items["item_id"].to_pylist()))
    for name, values in ((ID_FIRST, lookup.first), (ID_ROWS, lookup.rows), (ID_HASHES, lookup.hashes)):
        write_npy(folder / name, items.num_rows, [values])


def _stored(folder: Path, column: ItemColumn, items: pa.Table, report: Progress) -> JsonMap:
    path = write_column(folder / COLUMNS, column, items)
    report(f"column {column.name}", items.num_rows, items.num_rows)
    return {"fingerprint": column.fingerprint, "file": path.relative_to(folder).as_posix()}


def _own_name(
    bundle: Bundle, files: dict[str, FileSum], requires: dict[str, str], about: JsonMap
) -> tuple[str, JsonMap]:
    """The name of a version's contents, and what is to be said of it.

    A version of the same contents that was updated since does not stand for this one, which then says that it was built
    again and so has a name of its own.
    """
    name, again = _version_name(files, requires, about), 0
    while has_segment(bundle.path / "index" / name, 1):
        again += 1
        about = about | {"again": again}
        name = _version_name(files, requires, about)
    return name, about


def _version_name(files: dict[str, FileSum], requires: dict[str, str], about: JsonMap) -> str:
    sums = {name: file.sha256 for name, file in files.items()}
    return hashlib.sha256(dump_json({"files": sums, "requires": requires, "about": about})).hexdigest()[:16]


def _silent(stage: str, done: int, total: int) -> None:
    pass
