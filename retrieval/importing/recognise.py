"""Which reader an export is for: that whose required columns the files have the most of."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from retrieval.errors import BadData
from retrieval.importing.proposal import proposed_options
from retrieval.importing.registry import Input, Reader, readers
from retrieval.importing.source_files import SourceFile, view_name

COLUMNS_SHOWN = 12
FILES_PROPOSED = 3


@dataclass(frozen=True, kw_only=True)
class Assignment:
    """The files that a reader reads, by the name of the input, and those that it does not."""

    reader: Reader
    files: Mapping[str, Sequence[SourceFile]]
    unread: Sequence[SourceFile]
    score: tuple[int, int]  # required columns, then all columns that were found


def recognised(files: Sequence[SourceFile]) -> Assignment:
    """The reader that knows most of the files' columns.

    Raises BadData where none knows them, or where two know them equally well; the line names the files' columns and
    what to type.
    """
    found = sorted((assigned(reader, files) for reader in readers()), key=lambda one: one.score, reverse=True)
    if not found or found[0].score[0] == 0:
        raise BadData(f"no reader knows these files ({described(files)}); {advice(files)}")
    first, *others = found
    equal = [one.reader.name for one in others if one.score == first.score]
    if equal:
        names = ", ".join([first.reader.name, *equal])
        raise BadData(
            f"these files may be of several sources ({names}); add --from {first.reader.name} or another of them"
        )
    return first


def chosen(reader: Reader, files: Sequence[SourceFile]) -> Assignment:
    """The assignment of a reader that was named. Raises BadData where it can read none of the files."""
    found = assigned(reader, files)
    if not found.files:
        wanted = "; ".join(f"{one.name}: {_wanted(one)}" for one in reader.inputs)
        raise BadData(
            f"--from {reader.name}: cannot read any of the files ({described(files)}); {reader.title} has files "
            f"with the columns {wanted}; for other columns use --map item_id=COLUMN,title=COLUMN"
        )
    return found


def assigned(reader: Reader, files: Sequence[SourceFile]) -> Assignment:
    """Each file given to the input whose required columns it has, the one with the most of them first."""
    by_input: dict[str, list[SourceFile]] = {}
    unread: list[SourceFile] = []
    required = known = 0
    for file in files:
        fits = [(len(one.required.split()) or len(one.header.split()), _known(one, file), one) for one in reader.inputs]
        fits = [fit for fit in fits if _fits(fit[2], file)]
        if not fits:
            unread.append(file)
            continue
        n_required, n_known, best = max(fits, key=lambda fit: fit[:2])
        by_input.setdefault(best.name, []).append(file)
        if not best.optional:
            required, known = required + n_required, known + n_known
    return Assignment(reader=reader, files=by_input, unread=unread, score=(required, known))


def spelling(wanted: str, columns: Sequence[str]) -> str | None:
    """The column of a file that is meant by the spellings `A | B`; None where there is none.

    Case does not count, and a blank, `_` and `-` are the same.

    >>> spelling("Image link | Picture", ["id", "image_link"])
    'image_link'
    """
    by_name = {_folded(name): name for name in reversed(columns)}
    return next((by_name[_folded(one)] for one in spellings(wanted) if _folded(one) in by_name), None)


def _folded(name: str) -> str:
    return " ".join(re.split(r"[\s_-]+", name.lower().strip()))


def spellings(wanted: str) -> list[str]:
    """
    >>> spellings("Handle | URL handle")
    ['Handle', 'URL handle']
    """
    return [one.strip() for one in wanted.split(" | ")]


def _fits(one: Input, file: SourceFile) -> bool:
    if one.file:
        return file.kind == "csv" and file.called(one.file)
    columns = file.columns_of(one.rows)
    return bool(columns) and all(spelling(one.columns[name], columns) for name in one.required.split())


def _known(one: Input, file: SourceFile) -> int:
    columns = one.header.split() if one.file else file.columns_of(one.rows)
    return sum(spelling(wanted, columns) is not None for wanted in one.columns.values())


def _wanted(one: Input) -> str:
    return one.file or ", ".join(spellings(one.columns[name])[0] for name in one.required.split())


def described(files: Sequence[SourceFile]) -> str:
    """The files with their columns, for a message."""
    parts = []
    for file in files[:5]:
        columns = [name for name in file.columns_of() if "." not in name]
        more = ", ..." if len(columns) > COLUMNS_SHOWN else ""
        parts.append(f"{file.label}: {', '.join(columns[:COLUMNS_SHOWN])}{more}")
    return "; ".join(parts) + (f" and {len(files) - 5} more" if len(files) > 5 else "")


def advice(files: Sequence[SourceFile]) -> str:
    """What to type for files that no reader knows: for each the options that its columns suggest."""
    commands = []
    for file in files[:FILES_PROPOSED]:
        columns = [name for name in file.columns_of() if "." not in name]
        options = proposed_options(columns, view_name(file.label))
        commands.append(f"shortlist import {shlex.quote(file.label)} --out DATA {options}")
    packed = "" if all(Path(file.label).exists() for file in files) else "unpack the archive, "
    return f"{packed}say which column is what, such as: {'; '.join(commands)}; or name a source by --from"
