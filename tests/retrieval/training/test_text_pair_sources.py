"""Training pairs of the text encoder: who asked, what answers, and what is known to be good besides."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import TypeAlias

import numpy as np
import pyarrow as pa

from retrieval.data.dataset import DataSet
from retrieval.data.events import Events
from retrieval.text.rendering import user_text
from retrieval.topk import CSR
from retrieval.training.text_pair_sources import (
    TITLES_READ,
    event_query_pairs,
    history_pairs,
    judged_pairs,
    rated_pairs,
)
from retrieval.training.text_pairs import TextPairs
from retrieval.training.windows import Windows

Story: TypeAlias = Callable[[Sequence[Sequence[tuple[int, ...]]]], Events]
Shop: TypeAlias = Callable[..., DataSet]
ITEMS = {"item_id": ["a", "b", "c", "d"], "title": ["red mug", "blue mug", "steel drill", "oil"]}


def told(pairs: TextPairs) -> set[tuple[str, int]]:
    return {(text, int(item)) for text, item in zip(pairs.text, pairs.item, strict=True)}


def known(pairs: TextPairs, owner: int) -> set[int]:
    return set(pairs.known.select(np.array([owner])).rows.tolist())


def test_high_grades_are_positives_and_middling_ones_no_negatives(load_shop: Shop) -> None:
    data = load_shop(
        items=ITEMS,
        queries={"query_id": ["q0", "q1", "q2"], "text": ["mug", "drill", "hair"]},
        judgements={
            "query_id": ["q0", "q0", "q0", "q1", "q1", "q2"],
            "item_id": ["a", "b", "c", "c", "a", "d"],
            "grade": [3.0, 2.0, 1.0, 2.33, 1.0, 3.0],
        },
    )
    pairs = judged_pairs(data, np.array([0, 1]))
    assert told(pairs) == {("mug", 0), ("drill", 2)}
    assert known(pairs, 0) == {0, 1}
    assert known(pairs, 1) == {2}
    assert known(pairs, 2) == set()  # of another fold, so it is not read
    assert pairs.known.n_lists == 3


def test_graded_pairs_are_all_that_was_judged_between_nought_and_one(load_shop: Shop) -> None:
    data = load_shop(
        items=ITEMS,
        queries={"query_id": ["q0", "q1"], "text": ["mug", "drill"]},
        judgements={"query_id": ["q0"] * 3 + ["q1"], "item_id": ["a", "b", "c", "c"], "grade": [3.0, 2.0, 1.0, 2.5]},
    )
    pairs = judged_pairs(data, np.array([0, 1]), graded=True)
    grades = {
        (text, int(item)): float(grade) for text, item, grade in zip(pairs.text, pairs.item, pairs.grades, strict=True)
    }
    assert grades == {("mug", 0): 1.0, ("mug", 1): 0.5, ("mug", 2): 0.0, ("drill", 2): 0.75}
    assert known(pairs, 0) == {0, 1}
    both = TextPairs.join([judged_pairs(data, np.array([0])), pairs])
    assert both.grades.tolist() == [1.0, *pairs.grades]
    assert both.take(np.array([2, 3])).grades.tolist() == [0.5, 0.0]
    assert pairs.digest() != TextPairs(pairs.text, pairs.owner, pairs.item, pairs.known).digest()


def test_judgements_of_one_grade_are_all_positives(load_shop: Shop) -> None:
    data = load_shop(
        items=ITEMS,
        queries={"query_id": ["q0"], "text": ["mug"]},
        judgements={"query_id": ["q0", "q0"], "item_id": ["a", "b"], "grade": [1.0, 1.0]},
    )
    assert told(judged_pairs(data, np.array([0]))) == {("mug", 0), ("mug", 1)}


def test_queries_of_training_events_ask_for_their_items(load_shop: Shop) -> None:
    data = load_shop(
        items=ITEMS,
        events={
            "user_id": ["u", "u", "u", "v"],
            "item_id": ["a", "b", "c", "d"],
            "event": ["view", "purchase", "purchase", "purchase"],
            "timestamp": pa.array([10**9 + second for second in range(4)], pa.timestamp("s")),
            "query": ["mug", "mug", None, "oil"],
        },
    )
    assert data.events is not None
    pairs = event_query_pairs(data, np.array([True, True, True, False]))
    assert told(pairs) == {("mug", 0), ("mug", 1)}
    mug = data.events.query_texts.index("mug")
    assert known(pairs, mug) == {0, 1}
    assert pairs.known.n_lists == len(data.events.query_texts)


def test_a_history_asks_by_its_newest_titles_for_an_item_of_the_request_that_followed(make_events: Story) -> None:
    events = make_events([[(0, 0, 1), (1, 0, 1, 0), (2, 0, 1), (3, 0, 1)], [], [(3, 0, 1), (0, 0, 1)]])
    every = np.ones(len(events), bool)
    windows, titles = Windows.build(events, every, every, 10), list(ITEMS["title"])
    pairs = history_pairs(windows, titles, 100, np.random.default_rng(0))
    newest = [titles[row] for row in (2, 1, 0)]
    assert told(pairs) == {
        (user_text(newest[2:]), 1),
        (user_text(newest[1:]), 2),
        (user_text(newest[:TITLES_READ]), 3),
        (user_text(titles[3:]), 0),
    }
    owner = {(text, int(item)): int(who) for text, item, who in zip(pairs.text, pairs.item, pairs.owner, strict=True)}
    assert owner[(user_text(titles[3:]), 0)] == 2
    assert known(pairs, 0) == {0, 1, 2, 3}
    assert known(pairs, 2) == {0, 3}


def test_no_more_pairs_than_asked_for_and_none_without_text(make_events: Story) -> None:
    events = make_events([[(0, 0, 1, 1), (1, 0, 1), (2, 0, 1)]] * 5)
    every = np.ones(len(events), bool)
    windows = Windows.build(events, every, every, 10)
    assert len(history_pairs(windows, list(ITEMS["title"]), 7, np.random.default_rng(0))) == 7
    everything = history_pairs(windows, list(ITEMS["title"]), 100, np.random.default_rng(0))
    assert len(everything) == 10  # not after the query, before which there is no title
    assert all(everything.text)


def test_of_a_basket_any_one_item_is_asked_for(make_events: Story) -> None:
    events = make_events([[(0, 0, 1, -1, 0), (1, 0, 1, -1, 1), (2, 0, 0, -1, 1)]] * 30)
    every = np.ones(len(events), bool)
    windows = Windows.build(events, every, every, 10)
    pairs = history_pairs(windows, list(ITEMS["title"]), 100, np.random.default_rng(0))
    assert told(pairs) == {("red mug", 1), ("red mug", 2)}
    assert len(pairs) == 30


def test_owners_of_one_text_share_what_they_know() -> None:
    judged = TextPairs(("mug", "oil"), np.array([1, 0]), np.array([0, 3]), CSR.from_lists([[3], [0, 1]]))
    bought = TextPairs(("drill", "mug"), np.array([0, 2]), np.array([2, 1]), CSR.from_lists([[2], [0], [1, 2]]))
    pairs = TextPairs.join([judged, bought]).grouped_by_text()
    assert pairs.text == ("mug", "oil", "drill", "mug")
    assert pairs.item.tolist() == [0, 3, 2, 1]
    assert pairs.owner[0] == pairs.owner[3]
    assert len(set(pairs.owner.tolist())) == 3
    assert [known(pairs, owner) for owner in pairs.owner[:3]] == [{0, 1, 2}, {3}, {2}]


def test_joined_pairs_keep_their_owners_apart(make_events: Story) -> None:
    events = make_events([[(0, 0, 1), (1, 0, 1)]])
    every = np.ones(2, bool)
    windows = Windows.build(events, every, every, 10)
    part = history_pairs(windows, list(ITEMS["title"]), 100, np.random.default_rng(0))
    both = TextPairs.join([part, part])
    assert both.owner.tolist() == [0, 1]
    assert both.item.tolist() == [1, 1]
    assert known(both, 1) == {0, 1}
    assert both.take(np.array([1])).owner.tolist() == [1]
    assert both.digest() != part.digest()


def test_ratings_are_the_grades_of_what_led_to_an_event(load_shop: Shop) -> None:
    days = [datetime(2024, 1, day, tzinfo=UTC) for day in (1, 2, 3, 4, 5)]
    data = load_shop(
        items=ITEMS,
        events={
            "user_id": ["ann"] * 5,
            "item_id": ["a", "b", "c", "d", "a"],
            "event": ["purchase"] * 5,
            "timestamp": days,
            "rating": [4.0, 5.0, 1.0, None, 3.0],
            "query": [None, None, "drill", None, None],
        },
    )
    pairs = rated_pairs(data, np.array([True, True, True, True, False]))
    assert list(zip(pairs.text, pairs.item.tolist(), pairs.grades.tolist(), strict=True)) == [
        ("red mug", 1, 1.0),  # the first event has nothing before it
        ("drill", 2, 0.0),
    ]
