"""Baselines against counts made one request at a time."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retrieval.data.events import Events
from retrieval.data.requests import Requests
from retrieval.data.split import EventSplit
from retrieval.metrics import baselines
from retrieval.metrics import ranking as metrics
from retrieval.metrics.baselines import DAY, Baseline
from retrieval.sources import cooccurrence as together
from retrieval.text.analysis import Analyzer
from retrieval.topk import CSR

N_ITEMS = 9


def shop(seed=0, n_users=7, n_events=60):
    """Random events and one request a user (its last event), as plain columns."""
    rng = np.random.default_rng(seed)
    user = np.sort(rng.integers(0, n_users, n_events)).astype(np.int32)
    time = rng.integers(0, 50 * DAY, n_events)
    time = time[np.lexsort((time, user))]
    none = np.full(n_events, -1, np.int32)
    events = Events(
        user=user,
        item=rng.integers(0, N_ITEMS, n_events).astype(np.int32),
        kind=rng.integers(0, 2, n_events).astype(np.int16),
        time=time,
        query=none,
        basket=none,
        quantity=np.ones(n_events, np.float32),
        price=np.full(n_events, np.nan, np.float32),
        rating=np.full(n_events, np.nan, np.float32),
        offsets=np.searchsorted(user, np.arange(n_users + 1)),
        kinds=("purchase", "view"),
        query_texts=(),
    )
    users = np.unique(user)
    end = events.offsets[users + 1] - 1
    return events, Requests(users.astype(np.int32), end, np.arange(len(users) + 1), events.item[end], time[end])


def counts_of(events, mask):
    return np.bincount(events.item[mask], minlength=N_ITEMS)


def listed(csr):
    return [csr.rows[a:b].tolist() for a, b in zip(csr.indptr[:-1], csr.indptr[1:], strict=True)]


def everything(baseline):
    return baseline.score(np.arange(baseline.n_requests))


@given(
    seed=st.integers(0, 2**32 - 1), k=st.integers(1, 12), with_exclusions=st.booleans(), cells=st.sampled_from([1, 40])
)
@settings(max_examples=80, deadline=None)
def test_places_and_ranks_equal_a_full_sort(seed, k, with_exclusions, cells):
    rng = np.random.default_rng(seed)
    scores = rng.integers(0, 3, (5, N_ITEMS)).astype(np.float32)
    scores[rng.random(scores.shape) < 0.2] = -np.inf
    baseline = Baseline(5, N_ITEMS, lambda part: scores[part].copy())
    exclude = CSR.from_lists([rng.permutation(N_ITEMS)[:3] for _ in range(5)]) if with_exclusions else None
    targets = CSR.from_lists([rng.permutation(N_ITEMS)[: rng.integers(0, 5)] for _ in range(5)])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(baselines, "CELLS", cells)
        hits, places = baseline.rank(k, exclude=exclude), baseline.places(targets, exclude=exclude)
    if exclude is not None:
        scores[exclude.owners, exclude.rows] = -np.inf
    for line, found in zip(scores, hits.rows.tolist(), strict=True):
        best = [row for row in sorted(range(N_ITEMS), key=lambda r: (-line[r], r)) if line[row] > -np.inf][:k]
        assert found == best + [-1] * (k - len(best))
    for owner, row, above, tied in zip(targets.owners, targets.rows, *places, strict=True):
        line, own = scores[owner], scores[owner, row]
        assert tied == (np.sum(line == own) if own > -np.inf else 0)
        assert above == (np.sum(line > own) if own > -np.inf else 0)


def test_pair_scores_are_those_of_the_listed_items(monkeypatch):
    monkeypatch.setattr(baselines, "CELLS", 2 * N_ITEMS)
    scores = np.random.default_rng(1).random((5, N_ITEMS), np.float32)
    pairs = CSR.from_lists([[3], [], [8, 0], [1, 1], [2]])
    found = Baseline(5, N_ITEMS, lambda part: scores[part]).pair_scores(pairs)
    assert found.tolist() == scores[pairs.owners, pairs.rows].tolist()


def test_popularity_is_the_count_of_training_events():
    baseline = baselines.popularity(2, np.array([1, 5, 0, 5]))
    assert baseline.rank(3).rows.tolist() == [[1, 3, 0]] * 2
    assert baseline.places(CSR.from_lists([[3], [2]])).tied.tolist() == [2, 1]


def test_recent_popularity_reads_only_whole_days_before_the_request():
    events, requests = shop(3)
    counted = np.ones(len(events.item), bool)
    overall = counts_of(events, counted)
    baseline = baselines.recent_popularity(requests, events, counted, overall, days=7)
    for line, time in zip(everything(baseline), requests.time, strict=True):
        today = time // DAY
        window = (events.time // DAY >= today - 7) & (events.time < today * DAY)
        recent = counts_of(events, window)
        assert np.floor(line).tolist() == recent.tolist()
        assert np.lexsort((-line,)).tolist() == np.lexsort((-overall, -recent)).tolist()


def test_an_event_after_the_request_changes_no_recent_popularity():
    events, requests = shop(4)
    counted, counts = np.ones(len(events.item), bool), np.zeros(N_ITEMS, np.int64)
    before = everything(baselines.recent_popularity(requests, events, counted, counts, days=30))
    late = events.time >= (requests.time.max() // DAY) * DAY
    changed = replace(events, item=np.where(late, 0, events.item).astype(np.int32))
    first = requests.time < events.time[late].min()
    after = everything(baselines.recent_popularity(requests, changed, counted, counts, days=30))
    assert late.any()
    assert before[first].tolist() == after[first].tolist()


def test_what_was_looked_at_last_stands_first_then_popularity():
    scores = everything(baselines.looked_at(CSR.from_lists([[2, 0], []]), np.array([1, 9, 3, 5])))
    assert np.argsort(-scores, axis=1).tolist() == [[0, 2, 1, 3], [1, 3, 2, 0]]


def test_own_frequency_counts_the_history_then_asks_popularity():
    events, requests = shop(5)
    counts = counts_of(events, np.ones(len(events.item), bool))
    history = baselines.histories(events, requests, ["purchase"])
    scores = everything(baselines.own_frequency(history, counts))
    for i, (user, end) in enumerate(zip(requests.user, requests.end, strict=True)):
        part = slice(events.offsets[user], end)
        bought = events.item[part][events.kind[part] == 0].tolist()
        assert listed(history)[i] == bought
        own = Counter(bought)
        assert sorted(range(N_ITEMS), key=lambda r: (-own[r], -counts[r], r)) == sorted(
            range(N_ITEMS), key=lambda r: (-scores[i, r], r)
        )


def test_a_history_holds_strictly_earlier_events_of_every_kind_by_default():
    events, requests = shop(6)
    assert listed(baselines.histories(events, requests)) == [
        events.item[events.offsets[user] : end].tolist() for user, end in zip(requests.user, requests.end, strict=True)
    ]


def test_cooccurrence_is_the_cosine_of_shopper_sets():
    events, _ = shop(7)
    counted = events.kind == 0
    similar = together.cooccurrence(events, counted, N_ITEMS).toarray()
    shoppers = [set(events.user[counted & (events.item == item)].tolist()) for item in range(N_ITEMS)]
    for i in range(N_ITEMS):
        for j in range(N_ITEMS):
            shared = len(shoppers[i] & shoppers[j]) / max(1, len(shoppers[i]) * len(shoppers[j])) ** 0.5
            assert similar[i, j] == pytest.approx(0 if i == j else shared, abs=1e-6)


def test_cooccurrence_keeps_the_nearest_neighbours_and_the_last_items_of_a_robot():
    events, _ = shop(8, n_users=3, n_events=80)
    counted = np.ones(80, bool)
    whole = together.cooccurrence(events, counted, N_ITEMS).toarray()
    pruned = together.cooccurrence(events, counted, N_ITEMS, neighbours=2).toarray()
    for line, kept in zip(whole, pruned, strict=True):
        best = sorted(np.flatnonzero(line), key=lambda j: (-line[j], j))[:2]
        assert sorted(np.flatnonzero(kept)) == sorted(best)
    robot = replace(events, user=np.zeros(5, np.int32), item=np.array([0, 1, 2, 3, 1], np.int32))
    short = together.cooccurrence(robot, np.ones(5, bool), 4, longest=2).toarray()
    assert np.argwhere(short).tolist() == [[1, 3], [3, 1]]


@pytest.mark.parametrize("baskets", [False, True])
def test_what_comes_right_after_is_counted_over_shoppers_and_a_basket_comes_at_once(baskets: bool):
    events, _ = shop(9, n_users=5, n_events=80)
    events = replace(events, time=events.time // 2, basket=np.where(baskets, events.time // 2, -1).astype(np.int32))
    counted = np.random.default_rng(0).random(80) < 0.8
    expected = np.zeros((N_ITEMS, N_ITEMS))
    for user in range(5):
        own = np.flatnonzero(counted & (events.user == user))
        for nth, event in enumerate(own):
            earlier = own[:nth][events.time[own[:nth]] < events.time[event]] if baskets else own[:nth]
            if len(earlier):
                expected[events.item[earlier[-1]], events.item[event]] += 1
    np.fill_diagonal(expected, 0)
    found = together.right_after(events, counted, N_ITEMS)
    np.testing.assert_array_equal(found.toarray(), expected)
    fewer = together.right_after(events, counted, N_ITEMS, neighbours=1).toarray()
    np.testing.assert_array_equal(fewer.max(axis=1), expected.max(axis=1))
    assert (np.count_nonzero(fewer, axis=1) <= 1).all()


def test_item_knn_sums_over_distinct_history_items_and_falls_back_to_popularity():
    from scipy.sparse import csr_array

    similar = csr_array(np.array([[0, 0.5, 0, 0], [0.5, 0, 0.25, 0], [0, 0.25, 0, 0], [0, 0, 0, 0]], np.float32))
    history = CSR.from_lists([[0, 2, 0], []])
    baseline = baselines.item_knn(history, similar, np.array([3, 1, 0, 2]))
    assert everything(baseline)[0, 1] == pytest.approx(0.75)
    assert baseline.rank(4).rows.tolist() == [[1, 0, 3, 2], [0, 3, 1, 2]]


def test_bm25_finds_words_and_answers_nothing_where_none_is_shared():
    baseline = baselines.bm25(
        ["3/4in SCREW", "unheard", ""], ["Deck screw, 3/4 in", "Deck board", "Wood screw", ""], Analyzer()
    )
    assert baseline.rank(4).rows.tolist() == [[0, 2, -1, -1], [-1] * 4, [-1] * 4]


def test_bm25_of_a_catalogue_without_words_answers_nothing():
    assert baselines.bm25(["screw"], ["", "..."], Analyzer()).rank(2).rows.tolist() == [[-1, -1]]


def test_the_untuned_encoder_ranks_by_inner_product_and_falls_back_without_a_history():
    items = np.eye(3, dtype=np.float32)
    queries = baselines.history_mean(CSR.from_lists([[1, 1, 2], []]), items)
    assert np.linalg.norm(queries, axis=1).tolist() == pytest.approx([1, 0])
    counts = np.array([0, 1, 2])
    assert baselines.inner_product(queries, items, counts).rank(3).rows.tolist() == [[1, 2, 0], [2, 1, 0]]
    assert baselines.inner_product(queries, items).rank(1).rows.tolist() == [[1], [-1]]


@pytest.mark.parametrize("kind", ["temporal", "leave_one_out"])
def test_every_baseline_of_recommendation_is_there_and_permuting_rows_changes_no_metric(kind):
    events, requests = shop(9)
    vectors = np.random.default_rng(2).standard_normal((N_ITEMS, 4)).astype(np.float32)
    train = np.ones(len(events.item), bool)
    train[requests.end] = False
    split = EventSplit(
        kind=kind,
        reason="",
        folds={},
        target_events=("purchase",),
        train=train,
        train_target=train & (events.kind == 0),
    )
    targets = baselines.targets_of(requests)

    def recalls(events, vectors, targets):
        found = baselines.event_baselines(events, requests, split, N_ITEMS, item_vectors=vectors)
        return {name: metrics.recall_at(one.places(targets), targets, 3).mean() for name, one in found.items()}

    before = recalls(events, vectors, targets)
    assert set(before) == {
        "popularity", "popularity_7d", "popularity_30d", "own_frequency", "item_knn", "looked_at", "untuned_encoder",
    }  # fmt: skip
    names = np.random.default_rng(3).permutation(N_ITEMS)
    renamed = replace(events, item=names[events.item].astype(np.int32))
    assert recalls(renamed, vectors[np.argsort(names)], CSR(targets.indptr, names[targets.rows])) == pytest.approx(
        before
    )


def test_the_baselines_of_search_are_named():
    vectors = np.eye(2, dtype=np.float32)
    assert list(baselines.query_baselines(["a"], ["a", "b"], Analyzer())) == ["bm25"]
    both = baselines.query_baselines(["a"], ["a", "b"], Analyzer(), query_vectors=vectors[:1], item_vectors=vectors)
    assert list(both) == ["bm25", "untuned_encoder"]
