"""Training pairs come from the retriever's own shortlists and never call a known positive a negative."""

from __future__ import annotations

import numpy as np
import pytest

from ranking.training.pairs import (
    BANDS,
    Band,
    GradeScale,
    PairSet,
    added_pairs,
    join_pairs,
    judged_pairs,
    members,
    mine_pairs,
    veto_negatives,
    with_negatives,
)
from retrieval.errors import BadData
from retrieval.topk import CSR, Hits

TEXTS = [f"item {row}" for row in range(1_000)]


def _hits(n: int, k: int = 100, seed: int = 0) -> Hits:
    random = np.random.default_rng(seed)
    rows = np.stack([random.permutation(len(TEXTS))[:k] for _ in range(n)])
    return Hits(rows, np.tile(np.linspace(1, 0, k, dtype=np.float32), (n, 1)))


def _nothing(n: int) -> CSR:
    return CSR.from_lists([[] for _ in range(n)])


def test_a_positive_that_retrieval_missed_is_not_smuggled_in() -> None:
    hits = _hits(3)
    missed = int(np.setdiff1d(np.arange(len(TEXTS)), hits.rows[1])[0])
    mined = mine_pairs(hits, CSR.from_lists([[hits.rows[0, 7]], [missed], [hits.rows[2, 99]]]), _nothing(3))
    assert mined.request.tolist() == [0, 2]
    assert mined.positive.tolist() == [hits.rows[0, 7], hits.rows[2, 99]]
    assert len(mined.positive) == 2


def test_negatives_come_from_every_band() -> None:
    hits = _hits(50)
    mined = mine_pairs(hits, CSR.from_lists([[row[50]] for row in hits.rows]), _nothing(50))
    for line, rows in zip(mined.negatives, hits.rows, strict=True):
        place = np.array([int(np.flatnonzero(rows == row)[0]) for row in line])
        assert len(set(line)) == len(line) == 7
        assert [((band.start <= place) & (place < band.stop)).sum() for band in BANDS] == [3, 2, 2]


def test_known_positives_are_never_negatives() -> None:
    hits = _hits(40, k=20)
    targets = CSR.from_lists([[row[0], row[3]] for row in hits.rows])
    others = CSR.from_lists([[*row[4:14], 999_999] for row in hits.rows])
    mined = mine_pairs(hits, targets, others)
    assert len(mined.positive) == 80
    for request, line in zip(mined.request, mined.negatives, strict=True):
        allowed = set(hits.rows[request, [1, 2, *range(14, 20)]])
        assert set(line) <= allowed


def test_what_a_band_lacks_the_others_make_up_for() -> None:
    hits = _hits(1, k=30)
    mined = mine_pairs(hits, CSR.from_lists([[hits.rows[0, 0]]]), _nothing(1))
    assert (mined.negatives >= 0).all()
    short = mine_pairs(_hits(1, k=4), CSR.from_lists([[_hits(1, k=4).rows[0, 0]]]), _nothing(1))
    assert (short.negatives >= 0).sum() == 3
    assert short.negatives.shape == (1, 7)
    pairs = short.pairs(["user"], TEXTS)
    assert len(pairs) == 4
    assert pairs.label.tolist() == [1.0, 0.0, 0.0, 0.0]


def test_pads_are_never_drawn() -> None:
    rows = np.array([[5, 6, 7, -1, -1, -1]])
    hits = Hits(rows, np.zeros(rows.shape, np.float32))
    mined = mine_pairs(hits, CSR.from_lists([[5]]), _nothing(1), bands=[Band(0, 6, 5)])
    assert sorted(mined.negatives[0].tolist()) == [-1, -1, -1, 6, 7]


def test_a_large_basket_gives_a_bounded_number_of_groups() -> None:
    hits = _hits(2)
    targets = CSR.from_lists([hits.rows[0, :30], hits.rows[1, :2]])
    mined = mine_pairs(hits, targets, _nothing(2), positives_per_request=4)
    assert mined.request.tolist() == [0, 0, 0, 0, 1, 1]
    assert len(set(mined.positive[:4])) == 4
    assert not set(mined.negatives[:4].ravel()) & set(hits.rows[0, :30])


def test_the_draw_is_seeded() -> None:
    hits = _hits(20)
    targets = CSR.from_lists([[row[10]] for row in hits.rows])
    first, again, other = (mine_pairs(hits, targets, _nothing(20), seed=seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first.negatives, again.negatives)
    assert (first.negatives != other.negatives).any()


def test_nothing_found_gives_nothing_to_learn() -> None:
    mined = mine_pairs(_hits(2), _nothing(2), _nothing(2))
    assert len(mined.positive) == 0
    assert len(mined.pairs(["a", "b"], TEXTS)) == 0
    empty = Hits(np.empty((0, 100), np.int64), np.empty((0, 100), np.float32))
    assert len(mine_pairs(empty, _nothing(0), _nothing(0)).positive) == 0


def test_groups_carry_the_text_of_their_request() -> None:
    hits = _hits(3)
    mined = mine_pairs(hits, CSR.from_lists([[], [hits.rows[1, 0]], [hits.rows[2, 0]]]), _nothing(3))
    pairs = mined.pairs(["nobody", "first", "second"], TEXTS)
    assert list(pairs.user_texts) == ["first", "second"]
    assert pairs.n_groups == 2
    assert pairs.group.tolist() == [0] * 8 + [1] * 8
    assert pairs.item[0] == hits.rows[1, 0]
    assert pairs.gain.tolist() == ([1.0] + [0.0] * 7) * 2


def test_judgements_become_groups_with_scaled_grades() -> None:
    pairs = judged_pairs(
        np.array([2, 0, 2, 0]),
        np.array([5, 6, 7, 8]),
        np.array([1.0, 3.0, 2.0, 2.5], np.float32),
        query_texts=["drill", "unasked", "hammer"],
        item_texts=TEXTS,
        scale=GradeScale(1.0, 3.0),
    )
    assert list(pairs.user_texts) == ["drill", "hammer"]
    assert pairs.item.tolist() == [6, 8, 5, 7]
    assert pairs.label.tolist() == [1.0, 0.75, 0.0, 0.5]
    np.testing.assert_allclose(pairs.gain, [3.0, 2**1.5 - 1, 0.0, 1.0], rtol=1e-6)


def test_a_grade_comes_back_from_its_logit() -> None:
    scale = GradeScale(1.0, 3.0)
    label = scale.label(np.array([1.5, 2.0, 2.9]))
    np.testing.assert_allclose(scale.grade(np.log(label / (1 - label))), [1.5, 2.0, 2.9], rtol=1e-5)
    assert scale.label(np.array([0.0, 9.0])).tolist() == [0.0, 1.0]


def test_a_single_grade_is_the_top_of_its_scale() -> None:
    assert GradeScale.of(np.array([4.0, 4.0])).label(np.array([4.0])).tolist() == [1.0]
    assert GradeScale.of(np.array([0.0])).label(np.array([0.0])).tolist() == [1.0]
    with pytest.raises(BadData, match="no judgement"):
        GradeScale.of(np.array([]))


def test_added_negatives_are_not_of_the_group() -> None:
    hits = _hits(2, k=12)
    pairs = judged_pairs(
        np.array([0, 0, 1]),
        np.array([hits.rows[0, 0], hits.rows[0, 1], hits.rows[1, 0]]),
        np.ones(3),
        query_texts=["a", "b"],
        item_texts=TEXTS,
        scale=GradeScale(0.0, 1.0),
    )
    more = with_negatives(pairs, hits, bands=[Band(0, 12, 4)])
    assert np.diff(more.indptr).tolist() == [6, 5]
    assert more.label.tolist() == [1, 1, 0, 0, 0, 0, 1, 0, 0, 0, 0]
    assert set(more.item[2:6]) <= set(hits.rows[0, 2:])
    assert set(more.item[7:]) <= set(hits.rows[1, 1:])


def groups(sizes: list[int], labels: list[float]) -> PairSet:
    return PairSet(
        user_texts=[f"user {group}" for group in range(len(sizes))],
        item_texts=TEXTS,
        indptr=np.concatenate(([0], np.cumsum(sizes))),
        item=np.arange(len(labels)) + 100,
        label=np.array(labels, np.float32),
    )


@pytest.mark.parametrize(("margin", "stay"), [(0.0, [100, 101, 103]), (1.0, [100, 103]), (-2.0, [100, 101, 102, 103])])
def test_a_teacher_vetoes_what_it_does_not_put_far_enough_below_the_positive(margin: float, stay: list[int]) -> None:
    pairs, logits = groups([4], [1, 0, 0, 0]), np.array([2.0, 1.5, 3.0, 1.0], np.float32)
    left = veto_negatives(pairs, pairs.label == 0, logits, margin)
    assert left.item.tolist() == stay
    assert left.label.tolist() == [1.0, *[0.0] * (len(stay) - 1)]
    assert left.indptr.tolist() == [0, len(stay)]


def test_of_several_best_the_one_that_the_teacher_likes_least_counts_and_what_is_judged_stays() -> None:
    pairs = groups([6], [1, 1, 0.5, 0, 0, 0])
    drawn = np.array([False] * 4 + [True] * 2)
    left = veto_negatives(pairs, drawn, np.array([5, 1, 0, 4, 2, 0.5], np.float32), 0.0)
    assert left.item.tolist() == [100, 101, 102, 103, 105]  # 104 lies between the best two; 103 was judged to be bad


def test_a_group_without_a_positive_is_left_and_one_without_a_negative_left_out() -> None:
    pairs = groups([2, 2, 1, 2], [0, 0, 1, 0, 1, 1, 0])
    logits = np.array([0, 9, 0, 9, 0, 0, -1], np.float32)
    left = veto_negatives(pairs, np.array([0, 1, 0, 1, 0, 0, 1], bool), logits, 0.0)
    assert list(left.user_texts) == ["user 0", "user 2", "user 3"]
    assert left.item.tolist() == [100, 101, 104, 105, 106]


def test_what_was_added_is_told_from_what_was_given() -> None:
    hits = _hits(3, k=12)
    given = judged_pairs(
        np.array([0, 0, 2]),
        np.array([*hits.rows[0, :2], hits.rows[2, 0]]),
        np.array([1.0, 3.0, 1.0]),
        query_texts=["a", "unasked", "c"],
        item_texts=TEXTS,
        scale=GradeScale(1.0, 3.0),
    )
    more = with_negatives(given, Hits(hits.rows[[0, 2]], hits.scores[[0, 2]]), bands=[Band(0, 12, 2)])
    assert added_pairs(more, given).tolist() == [False, False, True, True, False, True, True]
    assert not added_pairs(given, given).any()


def test_only_groups_that_can_be_ordered_are_sampled() -> None:
    pairs = judged_pairs(
        np.array([0, 0, 1, 1, 2, 3, 3]),
        np.arange(7),
        np.array([1.0, 2.0, 3.0, 3.0, 1.0, 3.0, 1.0]),
        query_texts=["a", "b", "c", "d"],
        item_texts=TEXTS,
        scale=GradeScale(1.0, 3.0),
    )
    assert pairs.contrasting().tolist() == [True, False, False, True]
    chosen = pairs.sample(10, seed=0)
    assert list(chosen.user_texts) == ["a", "d"]
    assert chosen.item.tolist() == [0, 1, 5, 6]
    assert pairs.sample(1, seed=0).n_groups == 1


def test_membership_is_by_line() -> None:
    rows = np.array([[1, 2, -1], [1, 2, 3]])
    got = members(rows, CSR.from_lists([[1, 9], [3, 3]]))
    assert got.tolist() == [[True, False, False], [False, False, True]]


def test_sources_are_joined_group_by_group() -> None:
    hits = _hits(2)
    mined = mine_pairs(hits, CSR.from_lists([[hits.rows[0, 0]], [hits.rows[1, 0]]]), _nothing(2)).pairs(
        ["a", "b"], TEXTS
    )
    judged = judged_pairs(
        np.array([0, 0]),
        np.array([3, 4]),
        np.array([1.0, 3.0]),
        query_texts=["c"],
        item_texts=TEXTS,
        scale=GradeScale(1.0, 3.0),
    )
    empty = mined.select(np.empty(0, np.int64))
    joined = join_pairs([mined, empty, judged])
    assert list(joined.user_texts) == ["a", "b", "c"]
    assert np.diff(joined.indptr).tolist() == [8, 8, 2]
    assert joined.item[-2:].tolist() == [3, 4]
    assert (joined.group[-1], joined.span) == (2, 2.0)
    assert len(join_pairs([empty])) == 0
