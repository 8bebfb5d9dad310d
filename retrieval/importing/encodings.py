"""The encoding and the delimiter of text files as spreadsheets write them; anything but UTF-8 is copied as UTF-8."""

from __future__ import annotations

import codecs
import csv
import gzip
import io
from collections.abc import Iterator
from pathlib import Path
from typing import IO, NamedTuple

from retrieval.errors import BadConfig, BadData

CHUNK = 1 << 20  # bytes that are read at once
DELIMITERS = ",;\t|"
_MARKS = {
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}  # bytes at the start of a file
WESTERN = "cp1252"  # what Excel writes in Western Europe; Latin-1 is a part of it


class Header(NamedTuple):
    """The first line of a delimited file: its columns, the delimiter, and the lines that it takes (with `sep=;`)."""

    columns: tuple[str, ...]
    delimiter: str
    lines: int


def opened(path: Path) -> IO[bytes]:
    """A file to read bytes of, unpacked where it is gzip."""
    with path.open("rb") as file:
        packed = file.read(2) == b"\x1f\x8b"
    return gzip.open(path) if packed else path.open("rb")  # type: ignore[return-value]


def encoding_of(path: Path) -> str:
    """The encoding of a text: by its byte-order mark, UTF-16 by its zeros, UTF-8 where all of it is, else CP1252."""
    with opened(path) as file:
        head = file.read(4)
        for mark, name in _MARKS.items():
            if head.startswith(mark):
                return name
        if len(head) == 4 and head.count(0) >= 2:
            return "utf-16-le" if head[1] == 0 else "utf-16-be"
    try:
        for _ in decoded(path, "utf-8"):
            pass
    except UnicodeDecodeError:
        return WESTERN
    return "utf-8"


def decoded(path: Path, encoding: str) -> Iterator[str]:
    """The text of a file, piece by piece; bytes that CP1252 has no character for are those of Latin-1."""
    decoder = codecs.getincrementaldecoder(encoding)("backslashreplace" if encoding == WESTERN else "strict")
    with opened(path) as file:
        while piece := file.read(CHUNK):
            yield decoder.decode(piece)
        yield decoder.decode(b"", final=True)


def as_utf8(path: Path, label: str, encoding: str | None, target: Path) -> tuple[Path, str]:
    """The file itself where it is plain UTF-8, else a copy of it at `target` that is; and the encoding that was read.

    Raises:
        BadData: the file is not in `encoding`.
        BadConfig: there is no such encoding.
    """
    try:
        found = encoding or encoding_of(path)
        if codecs.lookup(found).name == "utf-8" and encoding is None:
            return path, found
        with target.open("w", encoding="utf-8", newline="") as file:
            file.writelines(decoded(path, found))
    except LookupError as error:
        raise BadConfig(
            f"--encoding {encoding}: no such encoding; name one such as cp1252, gb18030 or utf-16"
        ) from error
    except UnicodeError as error:
        raise BadData(
            f"{label}: is not in the encoding {encoding or found} ({error}); name it with --encoding"
        ) from error
    except (OSError, EOFError) as error:
        raise BadData(f"{label}: cannot be read ({error}); write the file again") from error
    return target, found


def header_of(path: Path, delimiter: str = "") -> Header:
    """The header of a delimited file in UTF-8: the delimiter is the commonest outside of quotes, unless it is given."""
    with opened(path) as file:
        text = io.TextIOWrapper(file, encoding="utf-8-sig", newline="", errors="replace")
        first, lines = text.readline(), 1
        if (told := first.strip().lower()).startswith("sep=") and len(told) == 5:  # a line for Excel alone
            delimiter, first, lines = delimiter or told[-1], text.readline(), 2
        while first.count('"') % 2 and len(first) < CHUNK and (more := text.readline()):
            first, lines = first + more, lines + 1
    outside = "".join(first.split('"')[::2])
    chosen = delimiter or max(DELIMITERS, key=lambda one: (outside.count(one), -DELIMITERS.index(one)))
    if len(chosen) > 1:
        return Header(tuple(first.rstrip("\r\n").split(chosen)), chosen, lines)
    names = next(csv.reader([first], delimiter=chosen), [])
    return Header(tuple(" ".join(name.split()) for name in names), chosen, lines)
