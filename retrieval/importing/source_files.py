"""The files of an export: folders and archives are opened, and each file is told by what it holds, not by its name."""

from __future__ import annotations

import fnmatch
import json
import re
import shutil
import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree

from retrieval.errors import BadData
from retrieval.importing.encodings import as_utf8, header_of, opened

SAMPLE = 500  # JSON documents that tell which columns there are
SAMPLE_BYTES = 8 << 20  # and the most that is read for them
DEPTH = 3  # levels of nested JSON that are columns
PARQUET, DUCKDB = b"PAR1", b"DUCK"
TEXTS = {".csv", ".tsv", ".txt", ".dat", ".tab", ".json", ".jsonl", ".ndjson", ".xml", ".rss", ".atom", ".parquet"}


@dataclass(frozen=True, kw_only=True)
class SourceFile:
    """One file: `label` is its name for people, `path` what DuckDB reads; text is UTF-8.

    kind: `csv`, `json` (one document, or a list), `jsonl` (a document a line), `parquet` or `duckdb`.
    columns: of delimited files and parquet. documents: the first ones of JSON.
    """

    label: str
    path: Path
    kind: str
    columns: tuple[str, ...] = ()
    delimiter: str = ","
    skipped_lines: int = 1
    encoding: str = "utf-8"
    documents: Sequence[object] = field(default=(), repr=False)

    def columns_of(self, rows: str = "") -> tuple[str, ...]:
        """The names of columns; in JSON with dots inwards, of the elements of the list `rows` where it is given."""
        if self.kind not in ("json", "jsonl"):
            return self.columns
        names: dict[str, None] = {}
        for document in self.documents:
            elements = document.get(rows) if rows and isinstance(document, Mapping) else None
            for element in elements if isinstance(elements, list) else [document]:
                names.update(dict.fromkeys(_paths(element)))
        return tuple(names)

    def called(self, pattern: str) -> bool:
        """Whether the file's name matches a pattern such as `movies.dat`, packed or not."""
        name = Path(self.label).name.lower().removesuffix(".gz")
        return fnmatch.fnmatch(name, pattern.lower())


class Opened(NamedTuple):
    """The files that can be read, and those that cannot, each with the reason."""

    files: list[SourceFile]
    skipped: dict[str, str]


def open_files(sources: Iterable[Path], scratch: Path, *, encoding: str | None, delimiter: str = "") -> Opened:
    """Opens files, folders, `.zip` and `.gz`; what has to be unpacked or decoded is put into `scratch`.

    Raises BadData where a source does not exist, an archive is damaged, or there is nothing to read.
    """
    files: list[SourceFile] = []
    skipped: dict[str, str] = {}
    for label, path in _walk(sources, scratch):
        at = scratch / f"file-{len(files) + len(skipped):04}"
        try:
            found = _told(label, path, at, encoding, delimiter)
        except OSError as error:
            raise BadData(f"{label}: cannot be read ({error.strerror or error}); let this user read it") from error
        if isinstance(found, str):
            skipped[label] = found
        else:
            files.append(found)
    if not files:
        reasons = "; ".join(f"{label}: {reason}" for label, reason in list(skipped.items())[:3]) or "no file is there"
        raise BadData(
            f"nothing to import ({reasons}); name files of CSV, JSON, parquet or XML, or a folder or zip of them"
        )
    return Opened(files, skipped)


def _walk(sources: Iterable[Path], scratch: Path) -> Iterator[tuple[str, Path]]:
    """Every file with its label: those of folders by name, those of zip archives unpacked."""
    for source in sources:
        if not source.exists():
            raise BadData(f"{source}: does not exist; name the file, folder or zip of the export")
        inside = sorted(path for path in source.rglob("*") if path.is_file()) if source.is_dir() else [source]
        for path in inside:
            if any(part.startswith((".", "__MACOSX")) for part in path.relative_to(source).parts):
                continue
            if zipfile.is_zipfile(path) and not _is_workbook(path):
                yield from _unpacked(path, scratch)
            else:
                yield str(path), path


def _is_workbook(path: Path) -> bool:
    """Whether a zip archive is an Excel or OpenDocument file."""
    with zipfile.ZipFile(path) as packed:
        return not {"[Content_Types].xml", "mimetype"}.isdisjoint(packed.namelist())


def _unpacked(archive: Path, scratch: Path) -> Iterator[tuple[str, Path]]:
    try:
        with zipfile.ZipFile(archive) as packed:
            for at, member in enumerate(packed.infolist()):
                name = member.filename
                if member.is_dir() or any(part.startswith((".", "__MACOSX")) for part in Path(name).parts):
                    continue
                folder = scratch / f"{archive.name}-{at}"
                folder.mkdir()
                target = folder / Path(name).name
                with packed.open(member) as file, target.open("wb") as out:
                    shutil.copyfileobj(file, out)
                yield f"{archive}/{name}", target
    except (zipfile.BadZipFile, RuntimeError, NotImplementedError, EOFError) as error:
        raise BadData(f"{archive}: cannot be unpacked ({error}); unpack it yourself and name the folder") from error


def _told(label: str, path: Path, at: Path, encoding: str | None, delimiter: str) -> SourceFile | str:
    """The file by what it holds, or why it cannot be read."""
    try:
        with opened(path) as file:
            head = file.read(4096)
    except EOFError:
        return "is damaged gzip"
    if not head.strip(b"\x00 \r\n\t"):
        return "is empty"
    if head.startswith(b"PK\x03\x04"):
        return "is a workbook; save each of its sheets as CSV"
    if head.startswith(PARQUET):
        return _parquet(label, path, at)
    if head[8:12] == DUCKDB:
        return SourceFile(label=label, path=path, kind="duckdb")
    suffix = Path(label.lower().removesuffix(".gz")).suffix
    if suffix not in TEXTS and (b"\x00" in head or suffix in (".md", ".pdf", ".html", ".py", ".sql")):
        return "is no table"
    text, found = as_utf8(path, label, encoding, at.with_suffix(".txt"))
    with opened(text) as file:
        start = file.read(4096).decode("utf-8", errors="replace").lstrip("\ufeff \r\n\t")
    if start.startswith("<"):
        return _json(label, xml_rows(label, text, at.with_suffix(".jsonl")), at, found)
    if start.startswith(("{", "[")) and suffix not in (".csv", ".tsv"):
        return _json(label, text, at, found)
    header = header_of(text, delimiter)
    return SourceFile(
        label=label,
        path=_linked(text, at),
        kind="csv",
        columns=header.columns,
        delimiter=header.delimiter,
        skipped_lines=header.lines,
        encoding=found,
    )


def _parquet(label: str, path: Path, at: Path) -> SourceFile | str:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        names = pq.read_schema(path).names
    except (pa.ArrowException, OSError, ValueError):
        return "is damaged parquet"
    return SourceFile(label=label, path=_linked(path, at), kind="parquet", columns=tuple(names))


def _json(label: str, path: Path, at: Path, encoding: str) -> SourceFile | str:
    """A file of JSON: a document a line where its first line is one, else a list or one document."""
    with opened(path) as file:
        text = file.read(SAMPLE_BYTES).decode("utf-8-sig", errors="replace")
    first = next((line for line in text.splitlines() if line.strip()), "")
    lines = _parsed(first) is not None and first.lstrip().startswith("{")
    if lines:
        documents = [found for line in text.splitlines()[:SAMPLE] if (found := _parsed(line)) is not None]
    else:
        documents = _elements(text)
    if not documents:
        return "holds no JSON that can be read"
    kind = "jsonl" if lines else "json"
    return SourceFile(label=label, path=_linked(path, at), kind=kind, documents=documents, encoding=encoding)


def _elements(text: str) -> list[object]:
    """The first documents of a list, or those written one after the other, of a text that may be cut off."""
    decoder = json.JSONDecoder()
    documents: list[object] = []
    place = len(text) - len(text.lstrip()) + text.lstrip().startswith("[")
    while len(documents) < SAMPLE:
        while place < len(text) and text[place] in " \r\n\t,":
            place += 1
        try:
            found, place = decoder.raw_decode(text, place)
        except ValueError:
            break
        documents.append(found)
    return documents or _of_cut_list(text)


def _of_cut_list(text: str) -> list[object]:
    """The document `{"products": [...]}` of which a long list was cut off, with the elements that are whole."""
    opening = text.find("[")
    key = text[:opening].strip().removeprefix("{").strip().removesuffix(":").strip().strip('"')
    elements = _elements(text[opening:]) if opening > 0 and key and '"' not in key else []
    return [{key: elements}] if elements else []


def _parsed(line: str) -> object:
    try:
        return json.loads(line)
    except ValueError:
        return None


def _paths(value: object, before: str = "", depth: int = DEPTH) -> Iterator[str]:
    if not isinstance(value, Mapping):
        return
    for key, inner in value.items():
        yield f"{before}{key}"
        if depth > 1:
            yield from _paths(inner, f"{before}{key}.", depth - 1)


def _linked(path: Path, at: Path) -> Path:
    """A link without characters that DuckDB reads as a pattern."""
    with opened(path) as file, path.open("rb") as raw:
        packed = file.read(2) != raw.read(2)
    link = at.with_name(f"{at.name}-link{'.gz' if packed else ''}")
    link.symlink_to(path.resolve())
    return link


def view_name(label: str) -> str:
    """The name of the view of a file in queries.

    >>> view_name("export.zip/My Items (2).csv.gz")
    'My_Items_2'
    """
    stem = Path(label).name.removesuffix(".gz").rpartition(".")[0] or Path(label).name
    return re.sub(r"\W+", "_", stem).strip("_") or "file"


def xml_rows(label: str, path: Path, target: Path) -> Path:
    """The `<item>` or `<entry>` elements of a feed as JSON, one a line, by their names without a namespace.

    A name that occurs again in one element makes a list, an element with elements a nested object. Raises BadData where
    the XML is broken.
    """
    try:
        with opened(path) as file, target.open("w", encoding="utf-8") as out:
            for _, element in ElementTree.iterparse(file):
                if _local(element.tag) in ("item", "entry", "product"):
                    out.write(json.dumps(_object(element), ensure_ascii=False) + "\n")
                    element.clear()
    except ElementTree.ParseError as error:
        raise BadData(f"{label}: is broken XML ({error}); write the feed again") from error
    return target


def _object(element: ElementTree.Element) -> dict[str, object]:
    found: dict[str, object] = {}
    for child in element:
        name = _local(child.tag)
        value: object = _object(child) if len(child) else (child.text or child.get("href") or "").strip()
        if name not in found:
            found[name] = value
        elif isinstance(found[name], list):
            found[name].append(value)  # type: ignore[attr-defined]
        else:
            found[name] = [found[name], value]
    return found


def _local(tag: str) -> str:
    return tag.rpartition("}")[2]
