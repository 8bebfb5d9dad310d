"""What the cross-encoder learns from: our own retriever's candidates, and graded judgements."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from retrieval.errors import BadData
from retrieval.fingerprint import fingerprint
from retrieval.topk import CSR, Hits, Mask, Rows, Scores


@dataclass(frozen=True, kw_only=True)
class PairSet:
    """Labelled pairs in groups; a group is one user text (a request, a judged query) with several items.

    Group g holds the pairs `indptr[g]:indptr[g + 1]`. A pair's texts are `user_texts[g]` and `item_texts[item]`.
    `span` is the width of the grades before they were scaled (highest - lowest; 1 for bought or not), so that the
    exponential gain of a label is 2^(span * label) - 1.
    """

    user_texts: Sequence[str]  # [n_groups]
    item_texts: Sequence[str]  # [n_items], the whole catalogue's
    indptr: NDArray[np.int64]  # [n_groups + 1]
    item: Rows  # [n_pairs]
    label: NDArray[np.float32]  # [n_pairs], in [0, 1]
    span: float = 1.0

    def __len__(self) -> int:
        return len(self.item)

    @property
    def n_groups(self) -> int:
        """The number of user texts."""
        return len(self.indptr) - 1

    @property
    def group(self) -> NDArray[np.int64]:
        """The group of each pair, int64 [n_pairs]."""
        return CSR(self.indptr, self.item).owners

    @property
    def gain(self) -> NDArray[np.float64]:
        """The exponential gain of each pair, float64 [n_pairs]: 0 for label 0, and 1 for what was bought."""
        return np.exp2(self.span * self.label.astype(np.float64)) - 1.0

    def select(self, groups: NDArray[np.int64] | Mask) -> PairSet:
        """The pairs of some groups, by position or by mask."""
        wanted = np.arange(self.n_groups)[groups]
        places = CSR(self.indptr, np.arange(len(self))).select(wanted)
        return PairSet(
            user_texts=[self.user_texts[g] for g in wanted],
            item_texts=self.item_texts,
            indptr=places.indptr,
            item=self.item[places.rows],
            label=self.label[places.rows],
            span=self.span,
        )

    def contrasting(self) -> Mask:
        """Which groups hold more than one label: only they can be ordered well or badly, bool [n_groups]."""
        filled = np.flatnonzero(np.diff(self.indptr))
        told = np.zeros(self.n_groups, bool)
        if len(filled):
            starts = self.indptr[filled]
            told[filled] = np.maximum.reduceat(self.label, starts) > np.minimum.reduceat(self.label, starts)
        return told

    def sample(self, groups: int, seed: int) -> PairSet:
        """At most this many of the groups that can be ordered, drawn at random, in their order."""
        able = np.flatnonzero(self.contrasting())
        if len(able) > groups:
            able = np.sort(np.random.default_rng(seed).choice(able, groups, replace=False))
        return self.select(able)


class Band(NamedTuple):
    """How many negatives are drawn from the places `start` to `stop` (not included) of a shortlist."""

    start: int
    stop: int
    draws: int


BANDS = (Band(0, 10, 3), Band(10, 30, 2), Band(30, 100, 2))
VALID_BANDS = (Band(0, 10, 9), Band(10, 30, 5), Band(30, 100, 5))  # nearly the whole head, a sample of the rest


class MinedPairs(NamedTuple):
    """One line for each positive that retrieval found: its request, its row and the negatives drawn beside it."""

    request: NDArray[np.int64]  # [n_positives]
    positive: Rows  # [n_positives]
    negatives: Rows  # [n_positives, n_negatives]; -1 pads where the shortlist holds too few

    def pairs(self, user_texts: Sequence[str], item_texts: Sequence[str]) -> PairSet:
        """The groups with their texts, `user_texts` one for each request; the positive of each group comes first."""
        rows = np.column_stack((self.positive, self.negatives))
        label = np.zeros(rows.shape, np.float32)
        label[:, 0] = 1.0
        kept = rows >= 0
        return PairSet(
            user_texts=[user_texts[request] for request in self.request],
            item_texts=item_texts,
            indptr=np.concatenate(([0], np.cumsum(kept.sum(axis=1)))),
            item=rows[kept],
            label=label[kept],
        )


def veto_negatives(pairs: PairSet, drawn: Mask, logits: Scores, margin: float) -> PairSet:
    """The pairs without negatives that may well be liked: those `drawn`, bool [n_pairs], that a teacher does not put
    `margin` below the best of their group, of several equal ones the one that it likes least.

    `logits` float [n_pairs] are the teacher's. What is not drawn stays, a group without any positive as it is, and one
    that is left with a single label is left out: nothing can be learned from its order.
    """
    best = np.full(pairs.n_groups, -np.inf)
    np.maximum.at(best, pairs.group, pairs.label)
    least = np.full(pairs.n_groups, np.inf)
    at_best = (pairs.label == best[pairs.group]) & (pairs.label > 0)
    np.minimum.at(least, pairs.group[at_best], logits[at_best])
    kept = ~drawn | (logits <= least[pairs.group] - margin)
    left = replace(
        pairs,
        indptr=np.concatenate(([0], np.cumsum(np.bincount(pairs.group[kept], minlength=pairs.n_groups)))),
        item=pairs.item[kept],
        label=pairs.label[kept],
    )
    return left.select(left.contrasting() | ~pairs.contrasting())


def mine_pairs(
    hits: Hits,
    targets: CSR,
    other_positives: CSR,
    *,
    bands: Sequence[Band] = BANDS,
    positives_per_request: int = 4,
    seed: int = 0,
) -> MinedPairs:
    """Draw training groups from the shortlists of requests whose outcome is known.

    `targets` holds what each request ended in, `other_positives` what else its user is known to like (the history and
    the targets of other requests): rows of either are never negatives. A target that is not in the shortlist is left
    out, for serving will not show it either. Of many targets in one shortlist at most `positives_per_request` are
    drawn. Each band gives its number of draws; what a band lacks the others make up for.
    """
    random = np.random.default_rng(seed)
    bought = members(hits.rows, targets)
    free = (hits.rows >= 0) & ~bought & ~members(hits.rows, other_positives)
    request, place = np.nonzero(bought)
    if len(request):
        drawn = _first_of_each(request, random.permutation(len(request)), positives_per_request)
        request, place = request[drawn], place[drawn]
    return MinedPairs(request, hits.rows[request, place], _draw(hits.rows[request], free[request], bands, random))


class GradeScale(NamedTuple):
    """The line between grades and labels in [0, 1]."""

    lowest: float
    highest: float

    @classmethod
    def of(cls, grades: NDArray[np.floating]) -> GradeScale:
        """The range of grades present; where there is but one grade, it is the top of a scale that starts at 0.

        >>> GradeScale.of(np.array([1., 3., 2.33])), GradeScale.of(np.array([1., 1.]))
        (GradeScale(lowest=1.0, highest=3.0), GradeScale(lowest=0.0, highest=1.0))
        """
        if len(grades) == 0:
            raise BadData("judgements.parquet: no judgement is left in the training fold; give at least one")
        low, high = float(np.min(grades)), float(np.max(grades))
        return cls(low, high) if low < high else cls(high - 1.0 if high <= 0 else 0.0, high)

    @property
    def span(self) -> float:
        """highest - lowest."""
        return self.highest - self.lowest

    def label(self, grades: NDArray[np.floating]) -> NDArray[np.float32]:
        """Grades as labels; a grade outside of the scale counts as its nearer end."""
        return np.clip((np.asarray(grades) - self.lowest) / self.span, 0.0, 1.0).astype(np.float32)

    def grade(self, logits: NDArray[np.floating]) -> NDArray[np.float32]:
        """The grades that logits stand for: lowest + span * sigmoid(logit)."""
        return (self.lowest + self.span / (1.0 + np.exp(-np.asarray(logits, np.float64)))).astype(np.float32)


def judged_pairs(
    query: NDArray[np.integer],
    item: NDArray[np.integer],
    grade: NDArray[np.floating],
    *,
    query_texts: Sequence[str],
    item_texts: Sequence[str],
    scale: GradeScale,
) -> PairSet:
    """The judgements as groups, one for each query that has any, in the order of query codes.

    query, item and grade are [n] and may come in any order; `query_texts` is indexed by query code.
    """
    order = np.argsort(query, kind="stable")
    codes, starts = np.unique(query[order], return_index=True)
    return PairSet(
        user_texts=[query_texts[code] for code in codes],
        item_texts=item_texts,
        indptr=np.append(starts, len(order)).astype(np.int64),
        item=item[order].astype(np.int64),
        label=scale.label(grade[order]),
        span=scale.span,
    )


def with_negatives(pairs: PairSet, hits: Hits, *, bands: Sequence[Band] = BANDS, seed: int = 0) -> PairSet:
    """Add to each group items of its shortlist that are not in the group, with label 0; `hits` has a line a group.

    For judgements that name only what is relevant. An item that nobody judged may be relevant all the same, so graded
    judgements do without.
    """
    own = CSR(pairs.indptr, pairs.item)
    free = (hits.rows >= 0) & ~members(hits.rows, own)
    drawn = _draw(hits.rows, free, bands, np.random.default_rng(seed))
    found = drawn >= 0
    group = np.concatenate((own.owners, np.nonzero(found)[0]))
    order = np.argsort(group, kind="stable")
    return PairSet(
        user_texts=pairs.user_texts,
        item_texts=pairs.item_texts,
        indptr=pairs.indptr + np.concatenate(([0], np.cumsum(found.sum(axis=1)))),
        item=np.concatenate((pairs.item, drawn[found]))[order],
        label=np.concatenate((pairs.label, np.zeros(found.sum(), np.float32)))[order],
        span=pairs.span,
    )


def added_pairs(more: PairSet, given: PairSet) -> Mask:
    """Which pairs `with_negatives` made of `given` were not there before, bool [n_pairs]."""
    place = np.arange(len(more)) - more.indptr[more.group]
    return np.asarray(place >= np.diff(given.indptr)[more.group])


def members(rows: Rows, lists: CSR) -> Mask:
    """Which of the rows [n, k] stand in the list of their line, bool [n, k]; a pad stands in none."""
    width = max(int(rows.max(initial=0)), int(lists.rows.max(initial=0))) + 1
    keys = rows + np.arange(len(rows))[:, None] * width
    return np.isin(keys, lists.rows + lists.owners * width) & (rows >= 0)


def _first_of_each(owner: NDArray[np.int64], rank: NDArray[np.int64], most: int) -> NDArray[np.int64]:
    """The positions of the `most` lowest ranks of each owner, ascending; `owner` is sorted."""
    order = np.lexsort((rank, owner))
    starts = np.searchsorted(owner, owner, side="left")
    return np.sort(order[np.arange(len(owner)) - starts < most])


def _draw(rows: Rows, free: Mask, bands: Sequence[Band], random: np.random.Generator) -> Rows:
    """Rows drawn by band from each line where `free`, int64 [n, sum of draws], -1 where none is left."""
    wanted = sum(band.draws for band in bands)
    key = np.where(free, random.random(rows.shape), np.inf)
    for band in bands:
        part = key[:, band.start : band.stop]
        place = np.argsort(np.argsort(part, axis=1), axis=1)
        key[:, band.start : band.stop] = np.where(place < band.draws, part - 2.0, part)
    order = np.argsort(key, axis=1, kind="stable")[:, :wanted]
    found = np.isfinite(np.take_along_axis(key, order, axis=1))
    drawn = np.where(found, np.take_along_axis(rows, order, axis=1), -1)
    return np.pad(drawn, ((0, 0), (0, wanted - drawn.shape[1])), constant_values=-1)


def join_pairs(parts: Sequence[PairSet]) -> PairSet:
    """Groups of several sources over one catalogue, in their order; the widest `span` holds for all."""
    filled = [part for part in parts if part.n_groups]
    if not filled:
        return PairSet(
            user_texts=[],
            item_texts=[],
            indptr=np.zeros(1, np.int64),
            item=np.empty(0, np.int64),
            label=np.empty(0, np.float32),
        )
    starts = np.cumsum([0, *(len(part) for part in filled)])
    return PairSet(
        user_texts=[text for part in filled for text in part.user_texts],
        item_texts=filled[0].item_texts,
        indptr=np.concatenate(
            [[0], *(part.indptr[1:] + start for part, start in zip(filled, starts[:-1], strict=True))]
        ),
        item=np.concatenate([part.item for part in filled]),
        label=np.concatenate([part.label for part in filled]),
        span=max(part.span for part in filled),
    )


def digest_of(pairs: PairSet) -> str:
    """A fingerprint of the pairs: their texts, groups, items and labels."""
    texts = [pairs.item_texts[row] for row in np.unique(pairs.item)]
    arrays = [array.tobytes().hex() for array in (pairs.indptr, pairs.item, pairs.label)]
    return fingerprint(list(pairs.user_texts), texts, arrays)
