"""The cross-encoder's training pairs: from our own retriever's candidates, and from graded judgements."""

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
    """Labelled pairs in groups; a group is one user text (of a request or a judged query) with several items.

    Group g holds the pairs `indptr[g]:indptr[g + 1]`. A pair's texts are `user_texts[g]` and `item_texts[item]`.
    `span` is the range of the grades before scaling (highest - lowest; 1 for bought or not), so that the exponential
    gain of a label is 2^(span * label) - 1.
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
        """The exponential gain of each pair, float64 [n_pairs]; 0 for label 0, 1 for a purchase."""
        return np.exp2(self.span * self.label.astype(np.float64)) - 1.0

    def select(self, groups: NDArray[np.int64] | Mask) -> PairSet:
        """The pairs of some groups, given by position int64 [m] or mask bool [n_groups]."""
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
        """Which groups hold more than one label, and so can be ordered well or badly: bool [n_groups]."""
        filled = np.flatnonzero(np.diff(self.indptr))
        mixed = np.zeros(self.n_groups, bool)
        if len(filled):
            starts = self.indptr[filled]
            mixed[filled] = np.maximum.reduceat(self.label, starts) > np.minimum.reduceat(self.label, starts)
        return mixed

    def sample(self, groups: int, seed: int) -> PairSet:
        """At most `groups` of the contrasting groups, drawn at random and kept in order."""
        able = np.flatnonzero(self.contrasting())
        if len(able) > groups:
            able = np.sort(np.random.default_rng(seed).choice(able, groups, replace=False))
        return self.select(able)


class Band(NamedTuple):
    """Draw `draws` negatives from the places `start` to `stop` (exclusive) of a shortlist."""

    start: int
    stop: int
    draws: int


BANDS = (Band(0, 10, 3), Band(10, 30, 2), Band(30, 100, 2))
VALID_BANDS = (Band(0, 10, 9), Band(10, 30, 5), Band(30, 100, 5))  # nearly all of the first places, some others


class MinedPairs(NamedTuple):
    """The positives that retrieval found: each one's request, item row, and the negatives drawn for it."""

    request: NDArray[np.int64]  # [n_positives]
    positive: Rows  # [n_positives]
    negatives: Rows  # [n_positives, n_negatives]; -1 pads where the shortlist holds too few

    def pairs(self, user_texts: Sequence[str], item_texts: Sequence[str]) -> PairSet:
        """As a PairSet whose groups begin with their positive; `user_texts` has one text for each request."""
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
    """Remove drawn negatives that a teacher scores too high, so that they may be good items that were never shown.

    A pair of `drawn` bool [n_pairs] is kept if its teacher's logit (`logits` float [n_pairs]) is at least `margin`
    below that of its group's best label; of several items with that label, the one with the lowest logit counts. Other
    pairs stay, and so do groups without a positive. Groups that are left with a single label are removed.
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
    """Draw training groups from the shortlists of requests with known targets.

    `targets` holds the items that each request led to, `other_positives` further items that its user is known to like
    (history, targets of other requests): neither are drawn as negatives. A target outside of the shortlist is left out,
    as serving would not show it either. At most `positives_per_request` targets of a shortlist are drawn. `bands` says
    how many negatives come from which places; where a band has too few, others supply them.
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
    """The linear map between grades and labels in [0, 1]."""

    lowest: float
    highest: float

    @classmethod
    def of(cls, grades: NDArray[np.floating]) -> GradeScale:
        """The range of the grades; a single grade is taken as the top of a scale from 0.

        >>> GradeScale.of(np.array([1., 3., 2.33])), GradeScale.of(np.array([1., 1.]))
        (GradeScale(lowest=1.0, highest=3.0), GradeScale(lowest=0.0, highest=1.0))
        """
        if len(grades) == 0:
            raise BadData("judgements.parquet: the training fold holds no judgement; add judgements of split train")
        low, high = float(np.min(grades)), float(np.max(grades))
        return cls(low, high) if low < high else cls(high - 1.0 if high <= 0 else 0.0, high)

    @property
    def span(self) -> float:
        """highest - lowest."""
        return self.highest - self.lowest

    def label(self, grades: NDArray[np.floating]) -> NDArray[np.float32]:
        """Grades as labels float32; grades outside of the scale are clipped."""
        return np.clip((np.asarray(grades) - self.lowest) / self.span, 0.0, 1.0).astype(np.float32)

    def grade(self, logits: NDArray[np.floating]) -> NDArray[np.float32]:
        """The grades that logits predict, float32: lowest + span * sigmoid(logit)."""
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
    """The judgements as groups, one for each judged query, in the order of query codes.

    query, item and grade are [n], in any order; `query_texts` is indexed by query code, `item_texts` by item code.
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
    """Add to each group items of its shortlist that are not in it, with label 0; `hits` has a shortlist for each group.

    For judgements that name only relevant items; an item without a judgement may well be relevant.
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
    """Which pairs of `more` were added to those of `given` by `with_negatives`, bool [n_pairs]."""
    place = np.arange(len(more)) - more.indptr[more.group]
    return np.asarray(place >= np.diff(given.indptr)[more.group])


def members(rows: Rows, lists: CSR) -> Mask:
    """Which of the rows int64 [n, k] are in the list of their line, bool [n, k]; padding (-1) is in none."""
    width = max(int(rows.max(initial=0)), int(lists.rows.max(initial=0))) + 1
    keys = rows + np.arange(len(rows))[:, None] * width
    return np.isin(keys, lists.rows + lists.owners * width) & (rows >= 0)


def _first_of_each(owner: NDArray[np.int64], rank: NDArray[np.int64], most: int) -> NDArray[np.int64]:
    """The positions of the `most` lowest ranks of each owner, ascending; `owner` int64 [n] is sorted."""
    order = np.lexsort((rank, owner))
    starts = np.searchsorted(owner, owner, side="left")
    return np.sort(order[np.arange(len(owner)) - starts < most])


def _draw(rows: Rows, free: Mask, bands: Sequence[Band], random: np.random.Generator) -> Rows:
    """Rows drawn from each line by band where `free`, int64 [n, sum of draws]; -1 where none is left."""
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
    """Concatenate the groups of several PairSets over one catalogue; the largest `span` holds for all."""
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
