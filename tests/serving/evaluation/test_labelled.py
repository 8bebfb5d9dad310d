"""Labelled requests: what is hidden of a basket, what a shopper had searched for, and what is left to be found."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TypeAlias

import numpy as np
import pyarrow.parquet as pq
import pytest

from engine_changes import filtering_seen, with_fusion
from retrieval.metrics.baselines import targets_of
from serving.answering.tasks import TASKS
from serving.engine import Engine
from serving.evaluation.batch_requests import SEARCH_WINDOW, PastRequests
from serving.evaluation.labelled import LabelledRequests, LabelledShortlists
from serving.settings import RunSettings
from serving.shop import Shop

Open: TypeAlias = Callable[[Path, RunSettings], Shop]
Renamed: TypeAlias = Callable[[str], str]
FOLD = "test"


@pytest.fixture(scope="module")
def shop(sample_folder: Path, quick_settings: RunSettings, open_shop: Open) -> Shop:
    return open_shop(sample_folder, quick_settings)


@pytest.fixture(scope="module")
def labelled(engine: Engine, shop: Shop) -> LabelledRequests:
    return LabelledRequests(engine.state, shop)


@pytest.fixture(scope="module")
def carts(labelled: LabelledRequests) -> list[LabelledShortlists]:
    return labelled.carts(FOLD)


def past_of(found: LabelledShortlists) -> PastRequests:
    assert isinstance(found.batch.requests, PastRequests)
    return found.batch.requests


def lines_of(found: LabelledShortlists) -> list[tuple[int, int, list[int], list[int]]]:
    """Of each request its shopper, its time, its cart and what is to be found."""
    asked, lines = past_of(found), list[tuple[int, int, list[int], list[int]]]()
    assert asked.given is not None
    for at in range(len(found)):
        cart, target = (one.select(np.array([at])).rows.tolist() for one in (asked.given, found.targets))
        lines.append((int(asked.user[at]), int(asked.now[at]), cart, target))
    return lines


def hidden_ids(found: list[LabelledShortlists], shop: Shop) -> dict[tuple[str, int], tuple[list[str], list[str]]]:
    """The cart and the hidden item of each shopper's basket, all by their ids."""
    ids, users = shop.data.item_ids, shop.data.user_ids
    return {
        (users[user], time): (sorted(ids[row] for row in cart), [ids[row] for row in target])
        for part in found
        for user, time, cart, target in lines_of(part)
    }


def test_a_cart_and_what_is_hidden_of_it_are_a_basket_of_the_fold(carts: list[LabelledShortlists], shop: Shop) -> None:
    assert shop.events is not None
    requests = shop.events.folds[FOLD]
    baskets = {
        (int(requests.user[at]), int(requests.time[at])): requests.targets(at).tolist() for at in range(len(requests))
    }
    lines = [line for part in carts for line in lines_of(part)]
    assert len(lines) == sum(len(basket) >= 2 for basket in baskets.values()) > 0
    for user, time, cart, target in lines:
        assert len(target) == 1
        assert target[0] not in cart
        assert sorted(cart + target) == baskets[user, time]


def test_what_is_in_a_cart_is_not_proposed_and_the_hidden_item_may_be(carts: list[LabelledShortlists]) -> None:
    for part in carts:
        given = past_of(part).given
        assert given is not None
        for at, rows in enumerate(part.batch.candidates.hits.rows):
            assert not np.isin(rows, given.select(np.array([at])).rows).any()
    found = [np.isin(part.targets.rows[:, None], part.batch.candidates.hits.rows).any() for part in carts]
    assert any(found)


def test_carts_without_an_order_of_their_own_are_asked_by_what_their_shoppers_took_before(
    labelled: LabelledRequests, carts: list[LabelledShortlists]
) -> None:
    (own,) = carts
    assert own.task == TASKS["complete_cart"]
    parts = LabelledRequests(with_fusion(labelled.state), labelled.shop).carts(FOLD)
    assert sum(map(len, parts)) == len(own)
    assert {part.task.order for part in parts} <= {"recommend", "recommend_unseen"}
    for part in parts:
        assert part.task.name == "complete_cart"
        took = np.diff(past_of(part).taken().indptr) > 0
        assert took.all() if part.task.order == "recommend" else not took.any()
    unseen = LabelledRequests(filtering_seen(labelled.state, True), labelled.shop).carts(FOLD)
    taken = [past_of(part).taken() for part in unseen]
    assert any(len(one.rows) for one in taken)
    for part, before in zip(unseen, taken, strict=True):
        assert part.task.excludes_taken
        assert not part.targets.listed_in(before).any()


def test_the_basket_of_a_cart_is_no_history_of_its_shopper(carts: list[LabelledShortlists]) -> None:
    for part in carts:
        asked = past_of(part)
        timeline = asked.past.timeline
        assert (asked.ends >= timeline.offsets[asked.user]).all()
        some = asked.ends > timeline.offsets[asked.user]
        assert (timeline.time[asked.ends[some] - 1] < asked.now[some]).all()


@pytest.mark.parametrize("what", ["rows", "ids_of_users", "ids_of_items"])
def test_what_is_hidden_does_not_depend_on_the_order_of_rows_items_and_shoppers(
    engine: Engine,
    carts: list[LabelledShortlists],
    shop: Shop,
    sample_folder: Path,
    quick_settings: RunSettings,
    open_shop: Open,
    tmp_path: Path,
    what: str,
) -> None:
    rng = np.random.default_rng(5)
    for path in sample_folder.glob("*.parquet"):
        table = pq.read_table(path)
        moved = path.stem == "items" if what == "ids_of_items" else path.stem != "items" or what == "rows"
        if moved:
            table = table.take(rng.permutation(table.num_rows))
        if what == "ids_of_users" and path.stem == "events":  # so that shoppers come in another order
            table = table.sort_by([("user_id", "descending"), ("timestamp", "ascending")])
        pq.write_table(table, tmp_path / path.name)
    again = open_shop(tmp_path, quick_settings)
    if what in ("rows", "ids_of_items"):
        assert list(again.data.item_ids) != list(shop.data.item_ids)
    found = hidden_ids(LabelledRequests(engine.state, again).carts(FOLD), again)
    assert found == hidden_ids(carts, shop)
    assert found


def test_another_shopper_with_the_same_basket_may_have_another_item_hidden(
    labelled: LabelledRequests, carts: list[LabelledShortlists]
) -> None:
    """What is hidden is drawn for each shopper: else items with a low hash would always be what is asked for."""
    places = []
    for part in carts:
        for _, _, cart, target in lines_of(part):
            hashes = labelled._item_hashes[np.array([*target, *cart])]
            places.append(int((hashes < hashes[0]).sum()) / len(cart))
    assert 0.2 < np.mean(places) < 0.8


def test_a_shop_without_baskets_has_no_carts(labelled: LabelledRequests, shop: Shop) -> None:
    assert shop.data.events is not None
    bare = replace(shop.data.events, basket=np.full_like(shop.data.events.basket, -1))
    assert LabelledRequests(labelled.state, replace(shop, data=replace(shop.data, events=bare))).carts(FOLD) == []
    assert LabelledRequests(labelled.state, replace(shop, events=None)).carts(FOLD) == []


@pytest.fixture(scope="module")
def searches(labelled: LabelledRequests) -> LabelledShortlists:
    found = labelled.personalised_searches(FOLD)
    assert found is not None
    return found


def test_a_personalised_search_is_asked_with_what_was_done_before_the_query(searches: LabelledShortlists) -> None:
    asked = past_of(searches)
    timeline = asked.past.timeline
    assert len(asked) > 0
    assert (timeline.query[asked.ends] >= 0).all()  # the history ends where the query stands
    codes = timeline.query[asked.ends].tolist()
    assert list(asked.texts) == [asked.past.query_texts[code] for code in codes]
    assert (asked.now == timeline.time[asked.ends]).all()
    begun = asked.ends > timeline.offsets[asked.user]
    assert (timeline.time[asked.ends[begun] - 1] <= asked.now[begun]).all()
    history = searches.batch.users.histories
    for at in range(len(asked)):
        newest = history.queries[at][history.present[at]]
        assert timeline.offsets[asked.user[at]] + len(newest) <= asked.ends[at]


def test_what_a_search_is_to_find_was_taken_after_it_and_within_the_window(searches: LabelledShortlists) -> None:
    asked, requests = past_of(searches), searches.past
    assert requests is not None
    np.testing.assert_array_equal(requests.user, asked.user)
    waited = requests.time - asked.now
    assert ((waited >= 0) & (waited <= SEARCH_WINDOW)).all()
    assert (asked.past.position[requests.end] >= asked.ends).all()
    assert (searches.targets.rows == targets_of(requests).rows).all()


def test_searches_longer_ago_than_the_window_lead_to_nothing(
    labelled: LabelledRequests, searches: LabelledShortlists, monkeypatch: pytest.MonkeyPatch
) -> None:
    requests = searches.past
    assert requests is not None
    waited = requests.time - past_of(searches).now
    for window in (0, int(np.median(waited))):
        monkeypatch.setattr("serving.evaluation.batch_requests.SEARCH_WINDOW", window)
        fewer = labelled.personalised_searches(FOLD)
        assert (0 if fewer is None else len(fewer)) == int((waited <= window).sum())


def test_the_query_is_the_last_before_what_was_taken(searches: LabelledShortlists) -> None:
    asked, requests = past_of(searches), searches.past
    assert requests is not None
    timeline, ends = asked.past.timeline, asked.past.position[requests.end]
    for at in range(len(asked)):
        between = timeline.query[asked.ends[at] + 1 : ends[at]]
        assert (between < 0).all()


def test_without_queries_in_events_nobody_searched_with_a_history(labelled: LabelledRequests, shop: Shop) -> None:
    assert shop.data.events is not None
    silent = replace(shop.data.events, query=np.full_like(shop.data.events.query, -1), query_texts=())
    bare = replace(shop, data=replace(shop.data, events=silent))
    assert LabelledRequests(labelled.state, bare).personalised_searches(FOLD) is None
    assert LabelledRequests(labelled.state, replace(shop, events=None)).personalised_searches(FOLD) is None


@pytest.mark.parametrize("unseen", [True, False, None])
def test_what_was_taken_before_is_to_be_found_only_where_it_may_be_answered(
    labelled: LabelledRequests, shop: Shop, unseen: bool | None
) -> None:
    assert shop.events is not None
    every = targets_of(shop.events.folds[FOLD])
    labelled = LabelledRequests(filtering_seen(labelled.state, True), shop) if unseen is None else labelled
    found = labelled.recommendations(FOLD, unseen=unseen)
    taken = past_of(found).taken()
    assert every.listed_in(taken).any()
    if unseen is False:
        assert found.targets.rows.tolist() == every.rows.tolist()
        assert found.batch.exclude is None
    else:
        assert found.targets.rows.tolist() == every.without(taken).rows.tolist()
        assert found.batch.exclude is not None
        assert not found.targets.listed_in(found.batch.exclude).any()


def test_so_many_requests_are_drawn_alike_each_time(labelled: LabelledRequests, shop: Shop) -> None:
    assert shop.events is not None
    whole, some = labelled.recommendations(FOLD), labelled.recommendations(FOLD, most=9)
    again = labelled.recommendations(FOLD, most=9)
    assert len(some) == 9 < len(whole) == len(shop.events.folds[FOLD])
    np.testing.assert_array_equal(some.batch.candidates.hits.rows, again.batch.candidates.hits.rows)
    assert set(past_of(some).ends.tolist()) <= set(past_of(whole).ends.tolist())


def test_some_of_the_requests_are_their_own_lines(searches: LabelledShortlists) -> None:
    part = np.array([3, 0])
    some = searches.select(part)
    assert len(some) == 2
    np.testing.assert_array_equal(some.batch.candidates.hits.rows, searches.batch.candidates.hits.rows[part])
    np.testing.assert_array_equal(some.owner, searches.owner[part])
    assert [text for text in past_of(some).texts] == [past_of(searches).texts[at] for at in (3, 0)]
    assert some.targets.select(np.array([1])).rows.tolist() == searches.targets.select(np.array([0])).rows.tolist()


def test_judged_queries_are_asked_of_nobody_for_the_highest_grade(labelled: LabelledRequests, shop: Shop) -> None:
    assert shop.judgements is not None
    queries = shop.judgements.folds[FOLD]
    found = labelled.searches(FOLD)
    assert list(found.batch.queries.typed) == shop.query_texts(queries)
    assert not found.batch.users.named.any()
    judged, grades = shop.judged(queries)
    np.testing.assert_array_equal(found.targets.rows, judged.rows[grades == grades.max()])
    other = labelled.searches(FOLD, texts=[f"{text}s" for text in shop.query_texts(queries)])
    assert list(other.batch.queries.typed) == [f"{text}s" for text in shop.query_texts(queries)]
    np.testing.assert_array_equal(other.targets.rows, found.targets.rows)
