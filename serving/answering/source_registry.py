"""The sources of an opened release: every registered one that it has the parts for, each made when it is first read."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from indexing.bundle.atomic_files import write_array
from indexing.version.index_version import IndexVersion
from retrieval.data.timeline import Timeline
from retrieval.errors import CorruptBundle
from retrieval.sources.lexical import Lexical
from retrieval.sources.protocols import CandidateSource
from retrieval.sources.registry import CodeLookups, Lookup, SourceSpec, source_specs
from retrieval.text.analysis import Analyzer
from retrieval.topk import CSR, Mask
from serving.answering.code_index import CodeIndex
from serving.answering.user_store import UserStore

if TYPE_CHECKING:
    from scipy.sparse import csr_array

VOCABULARY = "words.json"
ARRAYS = ("indptr", "rows", "scores")


def write_words(folder: Path, item_texts: Sequence[str], analyzer: Analyzer) -> None:
    """Writes the words of rendered items, in the order of an index."""
    words = Lexical.of(item_texts, analyzer)
    for name in ARRAYS:
        write_array(folder / f"{name}.npy", getattr(words, name))
    vocabulary = {"codes": dict(words.codes), "exact": dict(words.exact), "parts": sorted(analyzer.parts)}
    (folder / VOCABULARY).write_text(json.dumps(vocabulary, ensure_ascii=False), "utf-8")


def read_words(folder: Path, language: str) -> Lexical:
    """What `write_words` wrote of texts in a language. Raises CorruptBundle."""
    try:
        vocabulary = json.loads((folder / VOCABULARY).read_text("utf-8"))
        codes, exact, parts = (vocabulary[name] for name in ("codes", "exact", "parts"))
        indptr, rows, scores = (np.load(folder / f"{name}.npy", mmap_mode="r").view(np.ndarray) for name in ARRAYS)
    except (OSError, ValueError, EOFError, KeyError, TypeError) as error:
        raise CorruptBundle(f"{folder} cannot be read ({error}); restore it or build the index again") from error
    return Lexical(codes, indptr, rows, scores, Analyzer(language, frozenset(parts)), exact)


@dataclass(frozen=True)
class OpenedParts:
    """The parts of a release over one index version: see `retrieval.sources.registry.ReleaseParts`.

    `words` is a folder of `write_words` for the version as it was built, of texts in `language`.
    """

    version: IndexVersion
    store: UserStore
    targets: tuple[str, ...]
    words: Path | None
    language: str

    @property
    def n_items(self) -> int:
        """See ReleaseParts."""
        return self.version.size

    @property
    def timeline(self) -> Timeline:
        """See ReleaseParts."""
        return self.store.timeline

    @property
    def today(self) -> int:
        """See ReleaseParts."""
        return self.store.today

    @property
    def lexical(self) -> Callable[[], Lexical] | None:
        """See ReleaseParts."""
        return None if self.words is None else partial(read_words, self.words, self.language)

    def similarity(self, name: str) -> Callable[[], csr_array] | None:
        """See ReleaseParts."""
        return self.store.similarities.get(name)

    def column(self, name: str) -> pa.ChunkedArray | None:
        """See ReleaseParts."""
        if name not in self.version.items.column_names:
            return None
        return self.version.values_at(name, np.arange(self.version.size))

    def lookups(self) -> CodeLookups:
        """See ReleaseParts."""
        version, delta = self.version, self.version.delta
        built = self._built_codes
        texts, keys = built.texts.find, built.keys.find
        if delta is None:
            return CodeLookups([partial(_by_id, version), texts], [keys])
        unless = partial(partial, _unless, delta.place[: delta.n_base] >= delta.n_base)
        rows = delta.rows_now()
        added = CodeIndex.of(delta.items.filter(pa.array(rows >= 0)), rows[rows >= 0])
        return CodeLookups([partial(_by_id, version), unless(texts), added.texts.find], [unless(keys), added.keys.find])

    @cached_property
    def _built_codes(self) -> CodeIndex:
        """What finds the items as they were built by their codes."""
        return CodeIndex.of(self.version.items, np.arange(self.version.items.num_rows))

    def updated(self, version: IndexVersion) -> OpenedParts:
        """The same over an updated version."""
        renewed = replace(self, version=version)
        renewed.__dict__["_built_codes"] = self._built_codes
        return renewed


class Sources(Mapping[str, CandidateSource]):
    """The sources of a release by their name, each made when it is first read."""

    def __init__(self, parts: OpenedParts, made: Mapping[str, CandidateSource] | None = None) -> None:
        self._parts = parts
        self._specs: dict[str, SourceSpec] = {spec.name: spec for spec in source_specs() if spec.available(parts)}
        self._made = dict(made or {})

    def updated(self, version: IndexVersion) -> Sources:
        """The same over an updated version: sources that follow updates are made anew, now and not in the next request;
        the others stay as of the build."""
        follow = {name for name, spec in self._specs.items() if spec.follows_updates}
        made = self._made.copy()
        renewed = Sources(self._parts.updated(version), {name: made[name] for name in made.keys() - follow})
        for name in made.keys() & follow:
            renewed[name]
        return renewed

    def __getitem__(self, name: str) -> CandidateSource:
        if name not in self._made:
            self._made[name] = self._specs[name].make(self._parts)
        return self._made[name]

    def __contains__(self, name: object) -> bool:
        return name in self._specs  # without making it

    def __iter__(self) -> Iterator[str]:
        return iter(self._specs)

    def __len__(self) -> int:
        return len(self._specs)


def _unless(replaced: Mask, lookup: Lookup, texts: Sequence[str]) -> CSR:
    found = lookup(texts)
    return found.where(~replaced[found.rows])


def _by_id(version: IndexVersion, texts: Sequence[str]) -> CSR:
    rows = version.rows_of(texts)
    known = np.flatnonzero(rows >= 0)
    return CSR.grouped(known, rows[known], len(texts))
