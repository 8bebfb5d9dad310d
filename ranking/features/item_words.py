"""The words of items as query features read them: codes of stems, by row, kept at hand once read."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal, NamedTuple, TypeAlias

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from retrieval.text.analysis import Analyzer
from retrieval.topk import CSR

DESCRIPTION = 200  # characters of a description that are read
REMEMBERED = 200_000  # items whose words are kept at hand
SAMPLED = 1_000  # items that tell how long texts are
Codes: TypeAlias = NDArray[np.int64]
Part: TypeAlias = Literal["title", "fields"]
COLUMNS: Mapping[Part, tuple[str, ...]] = {"title": ("title",), "fields": ("brand", "category", "description")}


class Query(NamedTuple):
    """The stems of a query's words in their order, and their codes, int64 [n_words]."""

    stems: list[str]
    codes: Codes


@dataclass(frozen=True)
class ItemWords:
    """Reads the words of `items`. Safe to read from several threads: what two of them read at once is the same."""

    items: pa.Table
    analyzer: Analyzer
    _known: Mapping[Part, dict[int, Codes]] = field(default_factory=lambda: {"title": {}, "fields": {}})
    _codes: dict[str, int] = field(default_factory=dict)

    def query(self, text: str, longest: int) -> Query:
        """The first `longest` words of a query."""
        stems = [self.analyzer.stem(word) for word in self.analyzer.words(text)[:longest]]
        return Query(stems, np.array([code_of(one) for one in stems], np.int64))

    def at(self, part: Part, rows: Sequence[int]) -> CSR:
        """The codes of the words of each row's title, or of its other fields, in their order."""
        known = self._known[part]
        found = {row: known.get(row) for row in rows}
        missing = [row for row, codes in found.items() if codes is None]
        if missing:
            read = dict(zip(missing, map(self._read, self._texts(part, missing)), strict=True))
            if len(known) + len(read) > REMEMBERED:
                known.clear()
            known.update(read)
            found.update(read)
        return CSR.from_lists([codes for row in rows if (codes := found[row]) is not None])

    @cached_property
    def usual_lengths(self) -> Mapping[Part, float]:
        """The mean number of words of each part, over SAMPLED items that lie evenly apart."""
        n = self.items.num_rows
        rows = np.unique(np.linspace(0, max(n - 1, 0), min(n, SAMPLED)).astype(np.int64)).tolist()
        return {part: max(1.0, len(self.at(part, rows).rows) / max(1, len(rows))) for part in COLUMNS}

    def _texts(self, part: Part, rows: list[int]) -> list[str]:
        columns = [name for name in COLUMNS[part] if name in self.items.column_names]
        found = [map(_text, self.items[name].take(pa.array(rows, pa.int64())).to_pylist()) for name in columns]
        return [" ".join(values) for values in zip(*found, strict=True)] if found else [""] * len(rows)

    def _read(self, text: str) -> Codes:
        return np.array([self._code(word) for word in self.analyzer.words(text)], np.int64)

    def _code(self, word: str) -> int:
        code = self._codes.get(word)
        if code is None:
            code = self._codes[word] = code_of(self.analyzer.stem(word))
        return code


def code_of(stem: str) -> int:
    """A number for a stem, the same in every process, below 2 ** 32."""
    return zlib.crc32(stem.encode("utf-8", "replace"))


def idf(stem: str, items_with: Callable[[str], int], n_items: int) -> float:
    """How much a word that `items_with` counts says, as BM25 has it in Lucene."""
    holding = min(items_with(stem), n_items)
    return float(np.log1p((n_items - holding + 0.5) / (holding + 0.5)))


def _text(value: object) -> str:
    if value is None:
        return ""
    return " ".join(map(str, value)) if isinstance(value, list) else str(value)[:DESCRIPTION]
