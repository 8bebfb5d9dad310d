"""Training pairs come from the retriever's own shortlists and never call a known positive a negative."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from ranking.pairs import BANDS, Band, GradeScale, Veto, join_pairs, judged_pairs, members, mine, with_negatives
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
    mined = mine(hits, CSR.from_lists([[hits.rows[0, 7]], [missed], [hits.rows[2, 99]]]), _nothing(3))
    assert mined.request.tolist() == [0, 2]
    assert mined.positive.tolist() == [hits.rows[0, 7], hits.rows[2, 99]]
    assert mined.usable == 2


def test_negatives_come_from_every_band() -> None:
    hits = _hits(50)
    mined = mine(hits, CSR.from_lists([[row[50]] for row in hits.rows]), _nothing(50))
    for line, rows in zip(mined.negatives, hits.rows, strict=True):
        place = np.array([int(np.flatnonzero(rows == row)[0]) for row in line])
        assert len(set(line)) == len(line) == 7
        assert [((band.start <= place) & (place < band.stop)).sum() for band in BANDS] == [3, 2, 2]


def test_known_positives_are_never_negatives() -> None:
    hits = _hits(40, k=20)
    targets = CSR.from_lists([[row[0], row[3]] for row in hits.rows])
    others = CSR.from_lists([[*row[4:14], 999_999] for row in hits.rows])
    mined = mine(hits, targets, others)
    assert mined.usable == 80
    for request, line in zip(mined.request, mined.negatives, strict=True):
        allowed = set(hits.rows[request, [1, 2, *range(14, 20)]])
        assert set(line) <= allowed


def test_what_a_band_lacks_the_others_make_up_for() -> None:
    hits = _hits(1, k=30)
    mined = mine(hits, CSR.from_lists([[hits.rows[0, 0]]]), _nothing(1))
    assert (mined.negatives >= 0).all()
    short = mine(_hits(1, k=4), CSR.from_lists([[_hits(1, k=4).rows[0, 0]]]), _nothing(1))
    assert (short.negatives >= 0).sum() == 3
    assert short.negatives.shape == (1, 7)
    pairs = short.pairs(["user"], TEXTS)
    assert len(pairs) == 4
    assert pairs.label.tolist() == [1.0, 0.0, 0.0, 0.0]


def test_a_teacher_vetoes_what_it_does_not_put_far_enough_below_the_positive() -> None:
    hits, asked = _hits(30, k=20), list[tuple[int, int]]()
    targets = CSR.from_lists([[row[5]] for row in hits.rows])

    def logits(request: NDArray[np.int64], rows: NDArray[np.int64]) -> NDArray[np.float32]:
        asked.extend(zip(request.tolist(), rows.tolist(), strict=True))
        return (rows + 1_000 * request).astype(np.float32)  # what lies in another request is far off

    plain = mine(hits, targets, _nothing(30))
    for margin in (100.0, -100.0):
        mined = mine(hits, targets, _nothing(30), veto=Veto(logits, margin))
        np.testing.assert_array_equal(mined.positive, plain.positive)
        limit = mined.positive[:, None] - margin
        assert (plain.negatives > limit).any()
        np.testing.assert_array_equal(mined.negatives, np.where(plain.negatives <= limit, plain.negatives, -1))
    assert all(row in hits.rows[request] for request, row in asked)  # pads are not asked for


def test_no_veto_without_a_negative() -> None:
    hits = _hits(1, k=1)
    mined = mine(hits, CSR.from_lists([[hits.rows[0, 0]]]), _nothing(1), veto=Veto(lambda _, rows: 0.0 * rows, 1.0))
    assert mined.usable == 1
    assert (mined.negatives == -1).all()


def test_pads_are_never_drawn() -> None:
    rows = np.array([[5, 6, 7, -1, -1, -1]])
    hits = Hits(rows, np.zeros(rows.shape, np.float32))
    mined = mine(hits, CSR.from_lists([[5]]), _nothing(1), bands=[Band(0, 6, 5)])
    assert sorted(mined.negatives[0].tolist()) == [-1, -1, -1, 6, 7]


def test_a_large_basket_gives_a_bounded_number_of_groups() -> None:
    hits = _hits(2)
    targets = CSR.from_lists([hits.rows[0, :30], hits.rows[1, :2]])
    mined = mine(hits, targets, _nothing(2), positives_per_request=4)
    assert mined.request.tolist() == [0, 0, 0, 0, 1, 1]
    assert len(set(mined.positive[:4])) == 4
    assert not set(mined.negatives[:4].ravel()) & set(hits.rows[0, :30])


def test_the_draw_is_seeded() -> None:
    hits = _hits(20)
    targets = CSR.from_lists([[row[10]] for row in hits.rows])
    first, again, other = (mine(hits, targets, _nothing(20), seed=seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first.negatives, again.negatives)
    assert (first.negatives != other.negatives).any()


def test_nothing_found_gives_nothing_to_learn() -> None:
    mined = mine(_hits(2), _nothing(2), _nothing(2))
    assert mined.usable == 0
    assert len(mined.pairs(["a", "b"], TEXTS)) == 0
    empty = Hits(np.empty((0, 100), np.int64), np.empty((0, 100), np.float32))
    assert mine(empty, _nothing(0), _nothing(0)).usable == 0


def test_groups_carry_the_text_of_their_request() -> None:
    hits = _hits(3)
    mined = mine(hits, CSR.from_lists([[], [hits.rows[1, 0]], [hits.rows[2, 0]]]), _nothing(3))
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


def test_added_negatives_are_held_against_the_best_of_their_group() -> None:
    hits = _hits(3, k=12)
    first, last = hits.rows[0], hits.rows[2]
    pairs = judged_pairs(
        np.array([0, 0, 2]),
        np.array([first[0], first[1], last[0]]),
        np.array([1.0, 3.0, 2.0]),
        query_texts=["a", "unasked", "c"],
        item_texts=TEXTS,
        scale=GradeScale(1.0, 3.0),
    )
    lines = Hits(hits.rows[[0, 2]], hits.scores[[0, 2]])
    plain, best = with_negatives(pairs, lines, bands=[Band(0, 12, 6)]), {0: first[1], 1: last[0]}
    veto = Veto(lambda _, rows: rows.astype(np.float32), 0.0)
    more = with_negatives(pairs, lines, bands=[Band(0, 12, 6)], veto=veto)
    for group, judged in ((0, 2), (1, 1)):
        added = plain.item[plain.indptr[group] + judged : plain.indptr[group + 1]]
        kept = more.item[more.indptr[group] + judged : more.indptr[group + 1]]
        assert kept.tolist() == [row for row in added if row <= best[group]]
    assert len(pairs) < len(more) < len(plain)


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
    mined = mine(hits, CSR.from_lists([[hits.rows[0, 0]], [hits.rows[1, 0]]]), _nothing(2)).pairs(["a", "b"], TEXTS)
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
