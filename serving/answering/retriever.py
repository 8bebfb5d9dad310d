"""The candidates of requests: the towers' index, and the sources beside them, in one order."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from indexing.version.filters import Dnf, parse_filters
from indexing.version.index_version import IndexVersion
from retrieval.sources.exact import EXACT
from retrieval.sources.fusion import TOWERS, Fusion, joined_rows
from retrieval.sources.protocols import CandidateSource, RequestBatch, SourceScores, best_of_lists
from retrieval.topk import CSR, Hits, Mask, Rows, Scores, Vectors, exact_topk
from serving.answering.release_settings import OrderName, weights_for_task
from serving.request import Filters

Value = TypeVar("Value", np.bool_, np.float32)
CELLS = 8_388_608  # scores of items that sources may hold at once
REMEMBERED = 32  # masks of filters, one byte an item each


class Candidates(NamedTuple):
    """The shortlists of n requests, best first, and which source proposed each candidate."""

    hits: Hits
    proposed: Mapping[str, Mask]  # by source: bool [n, k]

    @classmethod
    def none(cls) -> Candidates:
        """Of no request."""
        return cls(Hits(np.empty((0, 0), np.int64), np.empty((0, 0), np.float32)), {})

    @property
    def exact(self) -> Mask:
        """Which candidates the query names by their id or code, bool [n, k]: they stand first."""
        return self.proposed.get(EXACT, np.zeros(self.hits.rows.shape, bool))

    def sources_of(self, line: int, place: int) -> tuple[str, ...]:
        """The sources that proposed one candidate."""
        return tuple(name for name, proposed in self.proposed.items() if proposed[line, place])

    def select(self, part: NDArray[np.int64]) -> Candidates:
        """Those of some requests, by position."""
        return Candidates(self.hits.select(part), {name: mask[part] for name, mask in self.proposed.items()})

    def permuted(self, order: NDArray[np.int64], scores: Scores) -> Candidates:
        """The same candidates by their old places `order` int64 [n, k], with `scores` float32 [n, k] in the new
        order."""
        lines = np.arange(len(order))[:, None]
        parts = {name: part[lines, order] for name, part in self.hits.parts.items()}
        proposed = {name: mask[lines, order] for name, mask in self.proposed.items()}
        return Candidates(Hits(self.hits.rows[lines, order], scores, parts), proposed)

    def followed_by(self, more: Candidates, lines: NDArray[np.int64]) -> Candidates:
        """The same, the shortlists `lines` int64 [m] with those of the m shortlists of `more` behind that they do not
        hold; none of these scores more than the place before."""
        rows, width = self.hits.rows, self.hits.rows.shape[1]
        new = np.full((len(rows), more.hits.rows.shape[1]), -1, np.int64)
        new[lines] = more.hits.rows
        new[(new[:, :, None] == rows[:, None, :]).any(axis=2)] = -1
        if not (new >= 0).any():
            return self

        def joined(own: NDArray[Value] | None, others: NDArray[Value] | None, empty: float) -> NDArray[Value]:
            kind = next(one.dtype for one in (own, others) if one is not None)
            both = np.full((len(rows), width + new.shape[1]), empty, kind)
            if own is not None:
                both[:, :width] = own
            if others is not None:
                both[lines, width:] = others
            both[:, width:][new < 0] = empty
            return both

        parts = {name: joined(part, more.hits.parts.get(name), 0) for name, part in self.hits.parts.items()}
        names = [*self.proposed, *(name for name in more.proposed if name not in self.proposed)]
        proposed = {name: joined(self.proposed.get(name), more.proposed.get(name), 0) for name in names}
        both = np.concatenate([rows, new], axis=1)
        scores = joined(self.hits.scores, more.hits.scores, -np.inf)
        order = np.argsort(both < 0, axis=1, kind="stable")
        scores = np.minimum.accumulate(np.take_along_axis(scores, order, axis=1), axis=1)
        return Candidates(Hits(both, scores, parts), proposed).permuted(order, scores)

    @classmethod
    def join(cls, parts: Sequence[Candidates]) -> Candidates:
        """The candidates of several parts, of the same k, one part after the other."""
        proposed = {name: np.zeros((0, 0), bool) for part in parts for name in part.proposed}
        for name in proposed:
            masks = (part.proposed.get(name, np.zeros(part.hits.rows.shape, bool)) for part in parts)
            proposed[name] = np.concatenate(list(masks))
        return cls(Hits.join([part.hits for part in parts]), proposed)


class CandidateScores(NamedTuple):
    """What several sources propose for some requests, and what each of them gives to every one of those."""

    pairs: CSR  # item rows of each request, ascending, each once
    scores: dict[str, Scores]  # by source: float32 [n_pairs]
    proposed: dict[str, Mask]  # by source: bool [n_pairs]


@dataclass(frozen=True)
class Retriever:
    """An index version, what is popular, and the sources beside the towers with their weights by task.

    Whatever is asked for, an item that was deleted from the version is never among the hits.
    """

    version: IndexVersion
    popularity: NDArray[np.float32]  # [n_items], of every row of the version
    sources: Mapping[str, CandidateSource] = field(default_factory=dict)
    fusions: Mapping[str, Fusion] = field(default_factory=dict)

    def fusion(self, order: OrderName) -> Fusion:
        """What was fitted for a task, of the sources that are there; the towers alone where nothing was."""
        weights = weights_for_task(self.fusions, order, Fusion.of_towers()).weights
        return Fusion({name: weight for name, weight in weights.items() if name == TOWERS or name in self.sources})

    def by_towers(self, vectors: Vectors, k: int, exclude: CSR | None = None, allowed: Mask | None = None) -> Hits:
        """The k best items of each user vector; popular ones for a vector of zeros, scored by how often they sold."""
        hits = self.version.search(vectors, k, allowed=allowed, exclude=exclude)
        nothing = ~vectors.any(axis=1)
        hits.rows[nothing], hits.scores[nothing] = -1, -np.inf
        return self._followed_by_popular(nothing, hits, exclude, allowed)

    def shortlists(
        self,
        vectors: Vectors,
        behaviour: RequestBatch,
        k: int,
        order: OrderName,
        exclude: CSR | None = None,
        allowed: Mask | None = None,
    ) -> Candidates:
        """The k best items of each request by all sources that count in a fusion, equal ones as the towers have them.

        None of those that `exclude` lists for a request, none that `allowed`, bool [n_items], leaves out of all.
        Without a fusion those are the towers' alone. Of a request of which the towers know nothing, what is popular
        follows what the sources propose.
        """
        fusion = self.fusion(order)
        found = self.candidates(vectors, behaviour, k, fusion.sources, exclude, allowed)
        hits = best_of_lists(found.pairs, fusion(found.scores), k, tie_breaker=found.scores[TOWERS])
        at = _place_of(found.pairs, hits, self.version.size)
        proposed = {name: _looked_up(mask, at) for name, mask in found.proposed.items()}
        hits = hits._replace(parts={name: _looked_up(scores, at) for name, scores in found.scores.items()})
        return Candidates(self._followed_by_popular(~vectors.any(axis=1), hits, exclude, allowed), proposed)

    def pin_exact_matches(
        self, given: Candidates, behaviour: RequestBatch, exclude: CSR | None = None, allowed: Mask | None = None
    ) -> Candidates:
        """The same with the items that a query names by their id or code in front of all others."""
        hits, k = given.hits, given.hits.rows.shape[1]
        may = self.version.answerable(allowed)
        named = self.sources[EXACT].read(behaviour).top(k, exclude, may) if EXACT in self.sources else None
        if named is None or (named.rows < 0).all():
            return given
        rows, scores, places = hits.rows.copy(), hits.scores.copy(), np.tile(np.arange(k), (len(hits.rows), 1))
        exact = np.zeros(rows.shape, bool)
        for line in np.flatnonzero((named.rows >= 0).any(axis=1)):
            first = named.rows[line][named.rows[line] >= 0]
            others = np.flatnonzero(~np.isin(hits.rows[line], first))[: k - len(first)]
            places[line] = np.concatenate([_find(hits.rows[line], first), others, np.full(k, -1)])[:k]
            rows[line] = np.concatenate([first, hits.rows[line, others], np.full(k, -1)])[:k]
            scores[line, len(first) : len(first) + len(others)] = hits.scores[line, others]
            scores[line, : len(first)] = hits.scores[line, others].max(initial=0.0) + 1
            exact[line, : len(first)] = True
        proposed = {name: _at_places(mask, places) for name, mask in given.proposed.items()}
        parts = {name: _at_places(part, places) for name, part in hits.parts.items()}
        return Candidates(Hits(rows, scores, parts), proposed | {EXACT: exact})

    def candidates(
        self,
        vectors: Vectors,
        behaviour: RequestBatch,
        k: int,
        names: tuple[str, ...],
        exclude: CSR | None = None,
        allowed: Mask | None = None,
    ) -> CandidateScores:
        """The k best items of the towers and of each named source, with the scores that all of them give."""
        found = []
        for part in self._parts(len(vectors)):
            without = None if exclude is None else exclude.select(part)
            found.append(self._candidates(vectors[part], behaviour.select(part), k, names, without, allowed))
        return _joined(found)

    def pair_scores(self, vectors: Vectors, behaviour: RequestBatch, pairs: CSR, order: OrderName) -> Scores:
        """The score under which each pair would stand in a shortlist, float32 [n_pairs]: list i holds index rows."""
        fusion = self.fusion(order)
        found = [np.empty(0, np.float32)]
        for part in self._parts(len(vectors)):
            read = {name: self.sources[name].read(behaviour.select(part)) for name in fusion.sources}
            found.append(fusion(self._all_scores(vectors[part], read, pairs.select(part))))
        return np.concatenate(found)

    def last_proposed(
        self,
        vectors: Vectors,
        behaviour: RequestBatch,
        k: int,
        names: Sequence[str],
        exclude: CSR | None = None,
        allowed: Mask | None = None,
    ) -> dict[str, Scores]:
        """The score of the last of the k items that the towers and each named source propose, float32 [n]; -inf where
        they propose fewer, for then whatever they know of is among them."""
        read = {name: self.sources[name].read(behaviour) for name in names}
        tops = self._proposals(vectors, read, k, exclude, allowed)
        full = {name: hits.rows.shape[1] >= k for name, hits in tops.items()}
        return {
            name: hits.scores[:, -1] if full[name] else np.full(len(vectors), -np.inf) for name, hits in tops.items()
        }

    def as_hits(self, vectors: Vectors, behaviour: RequestBatch, rows: Rows, order: OrderName | None) -> Hits:
        """Items at rows int64 [n, k], -1 for none, in their order, with the scores that a shortlist would have; `order`
        None: those of the towers alone."""
        hits = Hits(rows, np.zeros(rows.shape, np.float32))
        fusion = Fusion.of_towers() if order is None else self.fusion(order)
        parts = self.score_hits(vectors, behaviour, hits, fusion.sources)
        return Hits(rows, np.where(rows >= 0, fusion(parts), np.float32(-np.inf)), parts if order else {})

    def score_hits(
        self, vectors: Vectors, behaviour: RequestBatch, hits: Hits, names: Sequence[str]
    ) -> dict[str, Scores]:
        """What each of the named sources gives to the candidates, float32 [n, k], 0 for a pad; and `towers`, where the
        hits do not hold that."""
        present = hits.rows >= 0
        pairs = CSR(np.concatenate(([0], np.cumsum(present.sum(axis=1)))), hits.rows[present])
        found = {name: np.zeros(present.shape, np.float32) for name in names}
        for part in self._parts(len(hits.rows)) if names else ():
            of_part, asked = pairs.select(part), behaviour.select(part)
            for name in names:
                block = np.zeros((len(part), present.shape[1]), np.float32)
                block[present[part]] = self.sources[name].read(asked).at(of_part)
                found[name][part] = block
        if TOWERS not in hits.parts:
            found[TOWERS] = np.zeros(present.shape, np.float32)
            found[TOWERS][present] = self.tower_scores(vectors, pairs)
        return found

    def tower_scores(self, vectors: Vectors, pairs: CSR) -> Scores:
        """The towers' inner product of each pair, float32 [n_pairs]: list i holds index rows against user vector i."""
        found, ends = np.empty(len(pairs.rows), np.float32), pairs.indptr.tolist()
        for vector, start, end in zip(vectors, ends[:-1], ends[1:], strict=True):
            found[start:end] = self.version.vectors_at(pairs.rows[start:end]) @ vector
        return found

    def popular(self, n: int, k: int, exclude: CSR | None = None, allowed: Mask | None = None) -> Hits:
        """The most taken items, for each of n requests."""
        may = self.version.answerable(allowed)
        return exact_topk(np.ones((n, 1), np.float32), self.popularity[:, None], k, allowed=may, exclude=exclude)

    def _candidates(
        self,
        vectors: Vectors,
        behaviour: RequestBatch,
        k: int,
        names: tuple[str, ...],
        exclude: CSR | None,
        allowed: Mask | None,
    ) -> CandidateScores:
        read = {name: self.sources[name].read(behaviour) for name in names}
        tops = self._proposals(vectors, read, k, exclude, allowed)
        pairs = joined_rows(list(tops.values()), self.version.size)
        keys = pairs.owners * self.version.size + pairs.rows
        proposed = {name: _among(keys, _keys(hits, self.version.size)) for name, hits in tops.items()}
        return CandidateScores(pairs, self._all_scores(vectors, read, pairs), proposed)

    def _proposals(
        self, vectors: Vectors, read: Mapping[str, SourceScores], k: int, exclude: CSR | None, allowed: Mask | None
    ) -> dict[str, Hits]:
        """The k best items of the towers and of each source; none of the towers for a vector of zeros."""
        known = np.flatnonzero(vectors.any(axis=1))
        tops = {TOWERS: Hits(np.full((len(vectors), k), -1, np.int64), np.full((len(vectors), k), -np.inf, np.float32))}
        if len(known):
            without = None if exclude is None else exclude.select(known)
            tops[TOWERS].put(known, self.version.search(vectors[known], k, allowed=allowed, exclude=without))
        may = self.version.answerable(allowed)
        return tops | {name: scored.top(k, exclude, may) for name, scored in read.items()}

    def _parts(self, n: int) -> Iterator[NDArray[np.int64]]:
        """Requests whose scores of every item are few enough to be held at once."""
        size = max(1, CELLS // max(1, self.version.size))
        return (np.arange(start, min(start + size, n)) for start in range(0, max(n, 1), size))

    def _all_scores(self, vectors: Vectors, read: Mapping[str, SourceScores], pairs: CSR) -> dict[str, Scores]:
        return {TOWERS: self.tower_scores(vectors, pairs)} | {name: scored.at(pairs) for name, scored in read.items()}

    def _followed_by_popular(
        self, nothing: Mask | np.bool_, hits: Hits, exclude: CSR | None, allowed: Mask | None
    ) -> Hits:
        """The hits, those of the requests `nothing` filled up with what is popular, whose scores fall below theirs."""
        lines = np.flatnonzero(nothing)
        if not len(lines):
            return hits
        k = hits.rows.shape[1]
        popular = self.popular(len(lines), k, None if exclude is None else exclude.select(lines), allowed)
        rows, scores = hits.rows.copy(), hits.scores.copy()
        for line, more, counts in zip(lines.tolist(), popular.rows, popular.scores, strict=True):
            found = int(np.count_nonzero(rows[line] >= 0))
            kept = ~np.isin(more, rows[line][:found]) & (more >= 0)
            added = min(int(kept.sum()), k - found)
            rows[line, found : found + added] = more[kept][:added]
            below = counts[kept][:added]
            if found and added:
                below = below - below[0] + scores[line, found - 1] - 1
            scores[line, found : found + added] = below
        return Hits(rows, scores, hits.parts)


class FilterMasks:
    """The masks of one version; recent ones are cached. Safe to use from many threads."""

    def __init__(self, version: IndexVersion) -> None:
        self._version = version
        self._masks: dict[Dnf, Mask] = {}

    def of(self, filters: Filters | None) -> Mask | None:
        """The rows that a request's filters allow, bool [size], not to be written to; None: all.

        Raises BadRequest, naming the column or the operator, for what cannot be filtered by.
        """
        if not filters:
            return None
        wanted = parse_filters(filters, self._version.stored.schema)
        mask = self._masks.get(wanted)
        if mask is None:
            mask = self._version.by_row(wanted.mask(self._version.stored))
            if len(self._masks) >= REMEMBERED:
                self._masks.clear()
            self._masks[wanted] = mask
        return mask

    def forget(self) -> None:
        """Keeps none of them."""
        self._masks.clear()


def _keys(hits: Hits, span: int) -> NDArray[np.int64]:
    lines, places = np.nonzero(hits.rows >= 0)
    return lines * span + hits.rows[lines, places]


def _place_of(pairs: CSR, hits: Hits, span: int) -> NDArray[np.int64]:
    """Where each hit stands among the pairs, int64 [n, k]; -1 for a pad."""
    keys = pairs.owners * span + pairs.rows
    wanted = np.arange(len(hits.rows))[:, None] * span + hits.rows
    return np.where(hits.rows >= 0, np.searchsorted(keys, wanted), -1)


def _looked_up(values: NDArray[Value], at: NDArray[np.int64]) -> NDArray[Value]:
    """The value of each pair at a place [n, k], zero or false where that is -1."""
    return np.append(values, values.dtype.type(0))[at]


def _at_places(values: NDArray[Value], places: NDArray[np.int64]) -> NDArray[Value]:
    """What stood at the places [n, k] of each line, zero or false where a place is -1."""
    return np.where(places >= 0, np.take_along_axis(values, places, axis=1), values.dtype.type(0))


def _among(keys: NDArray[np.int64], some: NDArray[np.int64]) -> Mask:
    """Which of ascending keys, int64 [m], are among `some` of them."""
    found = np.zeros(len(keys), bool)
    found[np.searchsorted(keys, some)] = True
    return found


def _joined(parts: Sequence[CandidateScores]) -> CandidateScores:
    """Blocks of candidates, one after the other."""
    if len(parts) == 1:
        return parts[0]
    sizes = np.concatenate([np.diff(part.pairs.indptr) for part in parts])
    pairs = CSR(np.concatenate(([0], np.cumsum(sizes))), np.concatenate([part.pairs.rows for part in parts]))
    scores = {name: np.concatenate([part.scores[name] for part in parts]) for name in parts[0].scores}
    proposed = {name: np.concatenate([part.proposed[name] for part in parts]) for name in parts[0].proposed}
    return CandidateScores(pairs, scores, proposed)


def _find(rows: NDArray[np.int64], wanted: NDArray[np.int64]) -> NDArray[np.int64]:
    """Where each wanted row stands, -1 where it does not."""
    found = rows[None, :] == wanted[:, None]
    return np.where(found.any(axis=1), found.argmax(axis=1), -1)
