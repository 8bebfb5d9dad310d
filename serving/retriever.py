"""The candidates of requests: the towers' index, and the sources beside them, in one order."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from indexing.version import IndexVersion
from retrieval.fusion import TOWERS, Fusion, joined_rows
from retrieval.sources import Asked, CandidateSource, Scored, best_of_lists
from retrieval.topk import CSR, Hits, Mask, Scores, Vectors, exact_topk

TaskName: TypeAlias = Literal["recommend", "search"]
EXACT = "exact"  # the source that stands above all others
PAIRS = 65_536  # whose vectors are multiplied at once


class Shortlists(NamedTuple):
    """The candidates of some requests, best first, and which source proposed each."""

    hits: Hits
    proposed: Mapping[str, Mask]  # by source: bool [n, k]

    @property
    def exact(self) -> Mask:
        """Which candidates the query names by their id or code, bool [n, k]: they stand first."""
        return self.proposed.get(EXACT, np.zeros(self.hits.rows.shape, bool))

    def sources_of(self, line: int, place: int) -> tuple[str, ...]:
        """The sources that proposed one candidate."""
        return tuple(name for name, proposed in self.proposed.items() if proposed[line, place])


class Candidates(NamedTuple):
    """What several sources propose for some requests, and what each of them gives to every one of those."""

    pairs: CSR  # item rows of each request, ascending, each once
    scores: dict[str, Scores]  # by source: float32 [n_pairs]
    proposed: dict[str, Mask]  # by source: bool [n_pairs]


@dataclass(frozen=True)
class Retriever:
    """An index version, what is popular, and the sources beside the towers with their weights by task."""

    version: IndexVersion
    popularity: NDArray[np.float32]  # [n_items]
    sources: Mapping[str, CandidateSource] = field(default_factory=dict)
    fusions: Mapping[str, Fusion] = field(default_factory=dict)

    def fusion(self, task: TaskName) -> Fusion:
        """What was fitted for a task, of the sources that are there; the towers alone where nothing was."""
        weights = self.fusions.get(task, Fusion.of_towers()).weights
        return Fusion({name: weight for name, weight in weights.items() if name == TOWERS or name in self.sources})

    def by_towers(self, vectors: Vectors, k: int, exclude: CSR | None = None) -> Hits:
        """The k best items of each user vector; popular ones for a vector of zeros, scored by how often they sold."""
        hits = self.version.index.search(vectors, k, exclude=exclude)
        return self._popular_where(~vectors.any(axis=1), hits, exclude)

    def shortlists(
        self, vectors: Vectors, asked: Asked, k: int, task: TaskName, exclude: CSR | None = None
    ) -> Shortlists:
        """The k best items of each request by all sources that count for the task.

        Without a fusion those are the towers' alone. An item that the query names by its id stands first. A request of
        which no source knows anything gets what is popular.
        """
        fusion = self.fusion(task)
        names = (*fusion.sources, EXACT) if task == "search" and EXACT in self.sources else fusion.sources
        found = self.candidates(vectors, asked, k, names, exclude)
        fused = fusion(found.scores)
        if EXACT in names:
            fused = _above_all(fused, found.scores[EXACT] > 0, found.pairs.owners)
        hits = best_of_lists(found.pairs, fused, k)
        at = _place_of(found.pairs, hits, self.version.size)
        proposed = {name: _looked_up(mask, at) for name, mask in found.proposed.items()}
        return Shortlists(self._popular_where((hits.rows < 0).all(axis=1), hits, exclude), proposed)

    def candidates(
        self, vectors: Vectors, asked: Asked, k: int, names: tuple[str, ...], exclude: CSR | None = None
    ) -> Candidates:
        """The k best items of the towers and of each named source, with the scores that all of them give."""
        heard = np.flatnonzero(vectors.any(axis=1))
        tops = {TOWERS: Hits(np.full((len(vectors), k), -1, np.int64), np.full((len(vectors), k), -np.inf, np.float32))}
        if len(heard):
            without = None if exclude is None else exclude.select(heard)
            tops[TOWERS].rows[heard], tops[TOWERS].scores[heard] = self.version.index.search(
                vectors[heard], k, exclude=without
            )
        read = {name: self.sources[name].read(asked) for name in names}
        tops |= {name: scored.top(k, exclude) for name, scored in read.items()}
        pairs = joined_rows(list(tops.values()), self.version.size)
        keys = pairs.owners * self.version.size + pairs.rows
        proposed = {name: np.isin(keys, _keys(hits, self.version.size)) for name, hits in tops.items()}
        return Candidates(pairs, self._all_scores(vectors, read, pairs), proposed)

    def pair_scores(self, vectors: Vectors, asked: Asked, pairs: CSR, task: TaskName) -> Scores:
        """The score under which each pair would stand in a shortlist, float32 [n_pairs]: list i holds index rows."""
        fusion = self.fusion(task)
        read = {name: self.sources[name].read(asked) for name in fusion.sources}
        return fusion(self._all_scores(vectors, read, pairs))

    def tower_scores(self, vectors: Vectors, pairs: CSR) -> Scores:
        """The towers' inner product of each pair, float32 [n_pairs]: list i holds index rows against user vector i."""
        found, owners = np.empty(len(pairs.rows), np.float32), pairs.owners
        for part in _slices(len(found)):
            items = np.asarray(self.version.vectors[pairs.rows[part]])
            found[part] = np.einsum("ij,ij->i", vectors[owners[part]], items)
        return found

    def popular(self, n: int, k: int, exclude: CSR | None = None) -> Hits:
        """The most taken items, for each of n requests."""
        return exact_topk(np.ones((n, 1), np.float32), self.popularity[:, None], k, exclude=exclude)

    def _all_scores(self, vectors: Vectors, read: Mapping[str, Scored], pairs: CSR) -> dict[str, Scores]:
        return {TOWERS: self.tower_scores(vectors, pairs)} | {name: scored.at(pairs) for name, scored in read.items()}

    def _popular_where(self, nothing: Mask | np.bool_, hits: Hits, exclude: CSR | None) -> Hits:
        lines = np.flatnonzero(nothing)
        if not len(lines):
            return hits
        k = hits.rows.shape[1]
        popular = self.popular(len(lines), k, None if exclude is None else exclude.select(lines))
        rows, scores = hits.rows.copy(), hits.scores.copy()
        rows[lines], scores[lines] = popular
        return Hits(rows, scores)


def _above_all(scores: Scores, named: Mask, owners: NDArray[np.int64]) -> Scores:
    """The scores, with those of `named` pairs one above the best of their request."""
    if not named.any():
        return scores
    best = np.full(int(owners.max()) + 1, -np.inf, np.float32)
    np.maximum.at(best, owners, scores)
    return np.where(named, best[owners] + 1, scores)


def _keys(hits: Hits, span: int) -> NDArray[np.int64]:
    lines, places = np.nonzero(hits.rows >= 0)
    return lines * span + hits.rows[lines, places]


def _place_of(pairs: CSR, hits: Hits, span: int) -> NDArray[np.int64]:
    """Where each hit stands among the pairs, int64 [n, k]; -1 for a pad."""
    keys = pairs.owners * span + pairs.rows
    wanted = np.arange(len(hits.rows))[:, None] * span + hits.rows
    return np.where(hits.rows >= 0, np.searchsorted(keys, wanted), -1)


def _looked_up(mask: Mask, at: NDArray[np.int64]) -> Mask:
    return np.where(at >= 0, np.append(mask, False)[at], False)


def _slices(n: int) -> Iterator[slice]:
    return (slice(start, min(start + PAIRS, n)) for start in range(0, n, PAIRS))
