"""Answers under merchandising rules: what is hidden, moved, placed and capped, and what the answer says of it."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import pyarrow as pa
import pytest

from engine_changes import changed, ids, with_fusion
from retrieval.data.dataset import DataSet
from retrieval.data.time_units import DAY, SECOND
from ruled import ruled
from serving.answering.pipeline import answer_many, batch_of, run
from serving.answering.stages.apply_rules import apply_rules
from serving.answering.tasks import task_of
from serving.engine import Engine
from serving.request import Answer, Request


@pytest.fixture(scope="module")
def fused(reranking: Engine) -> Engine:
    """An engine of several sources, which proposes few items, so that rules have to ask for more."""
    return changed(Engine(with_fusion(reranking.state)), shortlist=20)


def values(engine: Engine, answer: Answer, name: str) -> list[object]:
    version = engine.state.version
    found: list[object] = version.values_at(name, version.rows_of(ids(answer))).to_pylist()
    return found


def test_blocked_items_are_never_answered_and_k_still_are(fused: Engine, data: DataSet) -> None:
    plain = fused.recommend(user_id=data.user_ids[0], k=10)
    hidden = ids(plain)[:8]
    engine = ruled(
        fused,
        f"""
kind = "block"
items = {hidden}
kind = "block"
filter = "price > 100"
kind = "in_stock"
""",
    )
    for answer in (
        engine.recommend(user_id=data.user_ids[0], k=10),
        engine.search("red mug"),
        engine.search(hidden[0]),
        engine.similar(data.item_ids[3]),
        engine.complete_cart(data.item_ids[:2]),
    ):
        assert len(answer.items) == 10
        assert not set(ids(answer)) & set(hidden)
        assert all(price is None or price <= 100 for price in values(engine, answer, "price"))  # type: ignore[operator]
        assert all(values(engine, answer, "in_stock"))


def test_only_holds_beside_the_filters_of_a_request(fused: Engine) -> None:
    engine = ruled(fused, '\nkind = "only"\nfilter = "price < 60"\n')
    found = engine.search("red mug", k=120, filters="price > 40")
    prices = values(engine, found, "price")
    assert prices
    assert all(40 < price < 60 for price in prices)  # type: ignore[operator]
    assert found.fallbacks == ("all items that may be answered",)


def test_what_was_bought_before_comes_back_after_its_days(engine: Engine, data: DataSet) -> None:
    state = engine.state
    rows = {user: state.user_contexts.of_user(user).taken.rows for user in data.user_ids}
    user = max(rows, key=lambda one: len(rows[one]))
    bought = set(state.version.ids_of(rows[user]))
    last = state.user_contexts.of_user(user).events
    now = float(last.times.max() / SECOND) + 3_600
    times = dict(zip(last.items.rows.tolist(), last.times.tolist(), strict=True))  # of each item the newest event

    def answered(rule: str, **more: bool) -> set[str]:
        asked = ruled(engine, f'\nkind = "bought_before"\n{rule}\n', lambda: now)
        return set(ids(asked.recommend(user_id=user, k=120, **more)))  # type: ignore[arg-type]

    assert len(bought) > 2
    assert not answered("days = 100000", filter_seen=False) & bought
    assert answered("days = 0", filter_seen=True) >= bought
    half = int(
        np.median([(now - times[row] / SECOND) // (DAY // SECOND) for row in state.version.rows_of(list(bought))])
    )
    late = {item for item in bought if item in answered(f"days = {half}", filter_seen=False)}
    assert set() < late < bought
    category = state.version.values_at("category", state.version.rows_of(sorted(bought)))[0].as_py()[-1]
    other = answered(f'by_category = {{ "{category}" = 0 }}', filter_seen=True) & bought
    assert sorted(bought)[0] in other
    assert all(
        category in one.as_py() for one in state.version.values_at("category", state.version.rows_of(sorted(other)))
    )


def test_boosts_move_items_within_the_shortlist_and_say_so(fused: Engine, data: DataSet) -> None:
    engine = ruled(fused, '\nkind = "boost"\nfilter = "price < 40"\nstrength = 10\n')
    for one in (engine.search("red mug", k=20), engine.recommend(user_id=data.user_ids[1], k=20)):
        cheap = [price < 40 for price in values(engine, one, "price")]  # type: ignore[operator]
        assert cheap == sorted(cheap, reverse=True)
        assert [hit.rules == ("rule 0",) for hit in one.items] == cheap


def test_a_margin_column_moves_what_earns_more_up(fused: Engine) -> None:
    state = fused.state
    margins = np.arange(state.version.size) % 7
    version = replace(state.version, items=state.version.items.append_column("margin", pa.array(margins)))
    retriever, contexts = replace(state.retriever, version=version), replace(state.user_contexts, version=version)
    with_margin = Engine(replace(state, retriever=retriever, user_contexts=contexts))
    engine = ruled(with_margin, '\nkind = "boost"\ncolumn = "margin"\nstrength = 10\n')
    plain, found = (values(engine, one.search("red mug", k=10), "margin") for one in (with_margin, engine))
    assert np.mean(found) > np.mean(plain)  # type: ignore[arg-type]


@pytest.mark.parametrize("diversity", [0.0, 0.6])
def test_pins_slots_floors_and_caps_hold_together_and_are_named(fused: Engine, data: DataSet, diversity: float) -> None:
    far = ids(fused.search("red mug", k=120))[-3:]
    brands = fused.state.version.stored["brand"].to_pylist()
    rare = min((brand for brand in sorted(set(brands)) if brands.count(brand) > 2), key=brands.count)
    engine = ruled(
        fused,
        f"""
kind = "pin"
items = {far[:2]}
place = 3
kind = "slot"
filter = "price > 50"
place = 2
kind = "floor"
filter = 'brand = "{rare}"'
least = 2
within = 8
kind = "cap"
column = "brand"
most = 2
""",
    )
    found = engine.search("red mug", k=10, diversity=diversity)
    assert len(found.items) == 10
    own = values(engine, found, "brand")
    assert max(own.count(brand) for brand in own) <= 2
    assert own[:8].count(rare) == 2
    assert values(engine, found, "price")[1] > 50  # type: ignore[operator]
    assert ids(found)[2:4] == far[:2]
    assert found.items[2].rules == ("rule 0",)
    assert found.items[2].sources == ()  # nothing proposed it
    assert found.items[1].rules == ("rule 1",)


def test_a_pinned_item_that_may_not_be_answered_is_left_out(fused: Engine, data: DataSet) -> None:
    item = data.item_ids[5]
    engine = ruled(fused, f'\nkind = "pin"\nitems = ["{item}"]\n')
    assert ids(engine.search("red mug"))[0] == item
    price = values(engine, engine.search("red mug"), "price")[0]
    assert item not in ids(engine.search("red mug", filters=[("price", "!=", price)]))
    assert item not in ids(engine.similar(item))
    assert item not in ids(engine.complete_cart([item]))
    exact = engine.search(data.item_ids[9])
    assert ids(exact)[:2] == [data.item_ids[9], item]


def test_under_a_tight_cap_more_items_are_fetched_until_there_are_no_more(fused: Engine, data: DataSet) -> None:
    engine = ruled(fused, '\nkind = "cap"\ncolumn = "brand"\nmost = 1\n')
    every = set(engine.state.version.stored["brand"].to_pylist())
    for answer in (
        engine.search("red mug", k=50),
        engine.recommend(user_id=data.user_ids[2], k=50),
        engine.recommend(k=50),
        engine.similar(data.item_ids[0], k=50),
    ):
        own = values(engine, answer, "brand")
        assert sorted(map(str, own)) == sorted(map(str, every))
        assert answer.fallbacks[-1] == "all items that may be answered"


def test_rules_of_a_place_and_an_audience_hold_there_alone(fused: Engine, data: DataSet) -> None:
    item, now = data.item_ids[40], datetime(2026, 12, 24, 12, tzinfo=UTC).timestamp()
    engine = ruled(
        fused,
        f"""
version = "advent"
kind = "pin"
items = ["{item}"]
pages = ["home"]
audience = {{ country = ["DE"] }}
until = 2026-12-24
kind = "pin"
items = ["{item}"]
query_is = ["garden chairs"]
kind = "pin"
items = ["{item}"]
categories = ["Garden"]
""",
        lambda: now,
    )
    asked = {"user_id": data.user_ids[0], "page": "home", "audience": {"country": "DE"}}
    assert ids(engine.recommend(**asked))[0] == item  # type: ignore[arg-type]
    assert engine.recommend(**asked).rules == "advent"  # type: ignore[arg-type]
    for other in ({"page": "cart"}, {"audience": {"country": "FR"}}, {"audience": None}):
        assert not any(hit.rules for hit in engine.recommend(**(asked | other)).items)
    assert ids(engine.search("garden chiar"))[0] == item  # as it is meant
    assert ids(engine.search("garden chiar", spellcheck=False))[0] != item
    late = ruled(fused, f'\nkind = "pin"\nitems = ["{item}"]\nuntil = 2026-12-23\n', lambda: now)
    assert not any(hit.rules for hit in late.recommend(**asked).items)  # type: ignore[arg-type]


def test_requests_under_different_rules_may_be_asked_together(fused: Engine, data: DataSet) -> None:
    item = data.item_ids[40]
    engine = ruled(
        fused,
        f"""
kind = "pin"
items = ["{item}"]
pages = ["home"]
kind = "block"
filter = "price > 50"
query_has = ["mug"]
kind = "cap"
column = "brand"
most = 1
tasks = ["recommend"]
""",
    )
    user = data.user_ids[0]
    requests = [
        Request(user_id=user),
        Request(user_id=user, page="home"),
        Request(query="red mug"),
        Request(query="red lamp"),
        Request(user_id=data.user_ids[1]),
        Request(user_id=data.user_ids[2], diversity=0.5),
        Request(user_id=data.user_ids[3], diversity=0.5),
    ]
    for request, found in zip(requests, answer_many(engine.state, requests), strict=True):
        alone = engine.answer(request)
        assert ids(found) == ids(alone)
        assert [hit.rules for hit in found.items] == [hit.rules for hit in alone.items]


def test_of_a_group_the_pinned_variant_is_answered_and_no_other(fused: Engine, data: DataSet) -> None:
    state = fused.state
    groups = pa.array([f"group-{row // 4}" for row in range(state.version.size)])
    version = replace(state.version, items=state.version.items.append_column("group_id", groups))
    retriever, contexts = replace(state.retriever, version=version), replace(state.user_contexts, version=version)
    grouped = Engine(replace(state, retriever=retriever, user_contexts=contexts))
    best = grouped.search("red mug").items[0]
    engine = ruled(grouped, f'\nkind = "pin"\nitems = ["{best.variants[1]}"]\nplace = 5\n')
    found = engine.search("red mug")
    assert ids(found)[4] == best.variants[1]
    assert best.item_id not in ids(found)
    assert len({group for group in values(engine, found, "group_id")}) == 10


def test_what_each_rule_did_can_be_read_from_the_batch(fused: Engine, data: DataSet) -> None:
    item = data.item_ids[40]
    engine = ruled(
        fused,
        f"""
kind = "boost"
filter = "price < 40"
strength = 2
kind = "pin"
items = ["{item}"]
kind = "block"
items = ["{data.item_ids[41]}"]
""",
    )
    state, request = engine.state, Request(query="red mug")
    batch = run(state, batch_of(state, task_of(state, request), [request]), until=apply_rules)
    effects, order, rules = batch.rule_effects, batch.order, batch.rules
    assert rules is not None
    assert effects is not None
    assert order is not None
    row = int(state.version.rows_of([item])[0])
    (*_, pin) = effects.of(0, row)
    assert (pin.rule, pin.kind, pin.shift) == ("rule 1", "pin", 0.0)
    assert pin.places > 0
    moved = [effects.of(0, one)[0] for one in order.rows[0, 1:6].tolist()]
    assert {(one.rule, one.kind, one.shift) for one in moved} == {("rule 0", "boost", 2.0)}
    assert effects.of(0, -5) == ()
    blocked = int(state.version.rows_of([data.item_ids[41]])[0])
    assert rules.disallowing(blocked) == ("rule 2",)
    assert rules.disallowing(row) == ()


def test_without_rules_and_under_rules_for_others_answers_are_the_same(fused: Engine, data: DataSet) -> None:
    engine = ruled(fused, '\nkind = "cap"\ncolumn = "brand"\nmost = 1\npages = ["elsewhere"]\n')
    for asked in (Request(user_id=data.user_ids[0]), Request(query="red mug", diversity=0.4)):
        found = engine.answer(asked)
        assert found.items == fused.answer(asked).items
        assert (found.rules != "", fused.answer(asked).rules) == (True, "")
