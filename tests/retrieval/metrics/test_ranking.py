"""Metrics against other libraries, against every order of small ties, and against cases worked by hand."""

from __future__ import annotations

import itertools
import json
import math
import os
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retrieval.metrics import ranking as metrics
from retrieval.metrics.ranking import Places, by_score, places_in
from retrieval.topk import CSR, Hits


def ranked(lists, scores=None):
    """Hits from lists of rows, padded; scores fall by one a place unless given."""
    width = max((len(rows) for rows in lists), default=0)
    hits = Hits(np.full((len(lists), width), -1, np.int64), np.full((len(lists), width), -np.inf, np.float32))
    for i, rows in enumerate(lists):
        hits.rows[i, : len(rows)] = rows
        hits.scores[i, : len(rows)] = -np.arange(len(rows)) if scores is None else scores[i]
    return hits


@st.composite
def tie_free(draw):
    """A few requests with shuffled lists of 12 items, and graded targets of which some are not listed."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    n = draw(st.integers(1, 5))
    lists = [rng.permutation(15)[: rng.integers(0, 13)] for _ in range(n)]
    wanted = [rng.permutation(15)[: rng.integers(1, 8)] for _ in range(n)]
    grades = [np.append(rng.integers(0, 5, len(w) - 1), rng.integers(1, 5)) for w in wanted]
    return lists, wanted, grades, draw(st.integers(1, 14))


def as_dicts(lists, wanted, grades):
    run = {f"q{i}": {f"d{row}": 100.0 - place for place, row in enumerate(rows)} for i, rows in enumerate(lists)}
    qrels = {
        f"q{i}": {f"d{row}": int(grade) for row, grade in zip(rows, own, strict=True)}
        for i, (rows, own) in enumerate(zip(wanted, grades, strict=True))
    }
    return run, qrels


@given(problem=tie_free())
@settings(max_examples=60, deadline=None)
def test_linear_gain_and_binary_metrics_equal_trec_eval(problem):
    pytrec_eval = pytest.importorskip("pytrec_eval")
    lists, wanted, grades, k = problem
    run, qrels = as_dicts(lists, wanted, grades)
    judge = pytrec_eval.RelevanceEvaluator(qrels, {f"ndcg_cut.{k}", f"recall.{k}", f"P.{k}", f"map_cut.{k}"})
    theirs = judge.evaluate(run)
    hits, all_targets = ranked(lists), CSR.from_lists(wanted)
    relevant = CSR.from_lists([w[g > 0] for w, g in zip(wanted, grades, strict=True)])
    ours = {
        f"ndcg_cut_{k}": metrics.ndcg_at(hits, all_targets, k, grades=np.concatenate(grades)),
        f"recall_{k}": metrics.recall_at(hits, relevant, k),
        f"P_{k}": metrics.precision_at(hits, relevant, k),
        f"map_cut_{k}": metrics.map_at(hits, relevant, k),
    }
    for name, values in ours.items():
        expected = [theirs[f"q{i}"][name] if len(rows) else 0.0 for i, rows in enumerate(lists)]
        assert values == pytest.approx(expected, abs=1e-9), name


@given(problem=tie_free())
@settings(max_examples=40, deadline=None)
def test_exponential_gain_equals_the_formula_of_burges(problem):
    lists, wanted, grades, k = problem
    ours = metrics.ndcg_at(ranked(lists), CSR.from_lists(wanted), k, grades=np.concatenate(grades), gain="exponential")
    for value, rows, want, own in zip(ours, lists, wanted, grades, strict=True):
        grade = dict(zip(want.tolist(), own.tolist(), strict=True))
        gained = sum((2 ** grade.get(row, 0) - 1) / math.log2(i + 2) for i, row in enumerate(rows.tolist()[:k]))
        best = sum((2**g - 1) / math.log2(i + 2) for i, g in enumerate(sorted(own, reverse=True)[:k]))
        assert value == pytest.approx(gained / best)


ASK_RANX = """
import json, sys
import numpy as np
from ranx.metrics import ndcg, ndcg_burges
qrels, runs = ([np.array(one, float) for one in part] for part in json.load(sys.stdin))
print(json.dumps([ndcg(qrels, runs, 10, 1).tolist(), ndcg_burges(qrels, runs, 10, 1).tolist()]))
"""


def test_both_gains_equal_ranx():
    """ranx runs apart with numba's compiler off: compiling two formulas takes it most of a minute."""
    pytest.importorskip("ranx")
    rng = np.random.default_rng(5)
    lists = [rng.permutation(40)[:25] for _ in range(60)]
    wanted = [rng.permutation(40)[: rng.integers(2, 20)] for _ in range(60)]
    grades = [np.sort(np.append(rng.integers(0, 5, len(w) - 1), 3))[::-1] for w in wanted]
    qrels = [np.stack((w, g), axis=1).tolist() for w, g in zip(wanted, grades, strict=True)]
    runs = [[[int(row), -place] for place, row in enumerate(rows)] for rows in lists]
    answer = subprocess.run(
        [sys.executable, "-c", ASK_RANX],
        input=json.dumps([qrels, runs]),
        env=os.environ | {"NUMBA_DISABLE_JIT": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    linear, exponential = json.loads(answer.stdout)
    hits, targets, flat = ranked(lists), CSR.from_lists(wanted), np.concatenate(grades)
    assert metrics.ndcg_at(hits, targets, 10, grades=flat) == pytest.approx(linear, abs=1e-9)
    assert metrics.ndcg_at(hits, targets, 10, grades=flat, gain="exponential") == pytest.approx(exponential, abs=1e-9)


def naive(order, targets, grades, k):
    """All metrics of one order, straight from their definitions."""
    rel = [row in targets for row in order]
    gains = [grades.get(row, 0.0) for row in order]
    best = sorted(grades.values(), reverse=True)
    return {
        "recall": sum(rel[:k]) / len(targets),
        "precision": sum(rel[:k]) / k,
        "hit_rate": float(any(rel[:k])),
        "mrr": next((1 / (i + 1) for i, r in enumerate(rel[:k]) if r), 0.0),
        "map": sum(sum(rel[: i + 1]) / (i + 1) for i, r in enumerate(rel[:k]) if r) / len(targets),
        "ndcg": sum(g / math.log2(i + 2) for i, g in enumerate(gains[:k]))
        / sum(g / math.log2(i + 2) for i, g in enumerate(best[:k])),
    }


def expected_over_orders(rows, scores, targets, grades, k):
    groups = [list(group) for _, group in itertools.groupby(range(len(rows)), key=lambda i: scores[i])]
    orders = [
        [rows[i] for part in parts for i in part]
        for parts in itertools.product(*(itertools.permutations(group) for group in groups))
    ]
    every = [naive(order, targets, grades, k) for order in orders]
    return {name: sum(one[name] for one in every) / len(every) for name in every[0]}


@given(
    scores=st.lists(st.integers(0, 2), min_size=1, max_size=6),
    wanted=st.dictionaries(st.integers(0, 7), st.sampled_from([0.5, 1.0, 2.5]), min_size=1, max_size=5),
    k=st.integers(1, 7),
)
@settings(max_examples=150, deadline=None)
def test_ties_count_at_their_mean_over_every_order(scores, wanted, k):
    scores = sorted(scores, reverse=True)
    rows = list(range(len(scores)))
    expected = expected_over_orders(rows, scores, set(wanted), wanted, k)
    hits, targets = ranked([rows], [scores]), CSR.from_lists([list(wanted)])
    for name in ("recall", "precision", "hit_rate", "mrr", "map"):
        assert getattr(metrics, f"{name}_at")(hits, targets, k)[0] == pytest.approx(expected[name]), name
    grades = np.array(list(wanted.values()))
    assert metrics.ndcg_at(hits, targets, k, grades=grades)[0] == pytest.approx(expected["ndcg"])


def test_a_tie_across_the_cut_by_hand():
    hits = ranked([[5, 6, 7, 8]], [[9, 1, 1, 1]])  # 6, 7, 8 share places 2 to 4; the target is one of them
    targets = CSR.from_lists([[8]])
    assert metrics.recall_at(hits, targets, 1)[0] == 0
    assert metrics.recall_at(hits, targets, 2)[0] == pytest.approx(1 / 3)
    assert metrics.mrr_at(hits, targets, 3)[0] == pytest.approx((1 / 2 + 1 / 3) / 3)
    assert metrics.ndcg_at(hits, targets, 3)[0] == pytest.approx((1 / math.log2(3) + 1 / 2) / 3)


def test_fractional_grades_by_hand():
    hits, targets, grades = ranked([[2, 1, 3]]), CSR.from_lists([[1, 2, 3]]), np.array([2.33, 1.0, 3.0])
    discount = 1 / math.log2(3)
    linear = (1.0 + 2.33 * discount) / (3.0 + 2.33 * discount)
    assert metrics.ndcg_at(hits, targets, 2, grades=grades)[0] == pytest.approx(linear)
    exponential = (0 + (2**1.33 - 1) * discount) / (3 + (2**1.33 - 1) * discount)
    found = metrics.ndcg_at(hits, targets, 2, grades=grades, gain="exponential", lowest=1)
    assert found[0] == pytest.approx(exponential)


def test_a_request_with_nothing_to_find_is_nan_and_one_that_misses_is_zero():
    hits, targets = ranked([[1, 2], [1, 2]]), CSR.from_lists([[], [9]])
    for name in ("recall", "precision", "hit_rate", "mrr", "map", "ndcg"):
        values = getattr(metrics, f"{name}_at")(hits, targets, 2)
        assert np.isnan(values[0]), name
        assert values[1] == 0, name


def test_no_requests_and_no_hits_give_empty_and_zero_values():
    assert metrics.mrr_at(ranked([]), CSR.from_lists([]), 5).shape == (0,)
    nothing = Hits(np.full((1, 3), -1), np.full((1, 3), -np.inf, np.float32))
    for name in ("recall", "precision", "hit_rate", "mrr", "map", "ndcg"):
        assert getattr(metrics, f"{name}_at")(nothing, CSR.from_lists([[0]]), 3).tolist() == [0.0], name


def test_a_settled_list_has_no_ties():
    hits = ranked([[4, 2], [7]], [[1, 1], [3]])
    targets = CSR.from_lists([[2], [7]])
    assert metrics.recall_at(hits, targets, 1).tolist() == [0.5, 1]
    assert metrics.recall_at(metrics.without_ties(hits), targets, 1).tolist() == [0, 1]
    assert metrics.without_ties(hits).scores.tolist() == [[0, -1], [0, -np.inf]]


def test_places_given_directly_count_like_the_list_they_describe():
    targets = CSR.from_lists([[8, 5], [3]])
    hits = ranked([[5, 6, 8], [1, 2]], [[9, 1, 1], [2, 1]])
    found = places_in(hits, targets)
    assert found.above.tolist() == [1, 0, 0]
    assert found.tied.tolist() == [2, 1, 0]
    wide = Places(np.array([1, 0, 40]), np.array([2, 1, 500]))
    assert metrics.recall_at(wide, targets, 50).tolist() == pytest.approx([1, 10 / 500])
    assert metrics.hit_rate_at(wide, targets, 50)[1] == pytest.approx(10 / 500)


@given(seed=st.integers(0, 2**32 - 1))
@settings(max_examples=20, deadline=None)
def test_renaming_the_rows_changes_no_metric(seed):
    rng = np.random.default_rng(seed)
    lists = CSR.from_lists([rng.permutation(9)[:6] for _ in range(4)])
    scores = rng.integers(0, 3, len(lists.rows)).astype(np.float32)
    targets = CSR.from_lists([rng.permutation(9)[:3] for _ in range(4)])
    names = rng.permutation(9)
    for name in ("recall", "hit_rate", "mrr", "map", "ndcg"):
        measure = getattr(metrics, f"{name}_at")
        before = measure(by_score(lists, scores), targets, 4)
        after = measure(
            by_score(CSR(lists.indptr, names[lists.rows]), scores), CSR(targets.indptr, names[targets.rows]), 4
        )
        assert before == pytest.approx(after), name


def test_coverage_novelty_and_popularity_bias_by_hand():
    hits = ranked([[0, 1], [0, 2]])
    counts = np.array([6, 1, 0, 1])
    assert metrics.coverage_at(hits, 4, 1) == 1 / 4
    assert metrics.coverage_at(hits, 4, 2) == 3 / 4
    surprise = [-math.log2(7 / 12), -math.log2(2 / 12), -math.log2(7 / 12), -math.log2(1 / 12)]
    assert metrics.novelty_at(hits, counts, 2) == pytest.approx(sum(surprise) / 4)
    assert metrics.popularity_bias_at(hits, counts, 1) == pytest.approx(6 / ((36 + 1 + 1) / 8))
    assert math.isnan(metrics.novelty_at(ranked([]), counts, 2))


@pytest.mark.parametrize(
    ("gain", "lowest", "name"),
    [
        ("linear", 0, "linear gain"),
        ("linear", 1, "linear gain, grade - 1"),
        ("exponential", 0, "exponential gain, 2^grade - 1"),
        ("exponential", 1, "exponential gain, 2^(grade - 1) - 1"),
    ],
)
def test_the_gain_is_named_as_it_is_computed(gain, lowest, name):
    assert metrics.gain_name(gain, lowest) == name
