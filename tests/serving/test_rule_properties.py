"""Whatever is asked under whatever rules: nothing that may not be answered, k items where there are k, and always the
same."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine_changes import changed, ids, with_fusion
from retrieval.data.dataset import DataSet
from ruled import NOW, ruled
from serving.engine import Engine
from serving.request import Request
from serving.rules.schema import BoughtBefore, Cap

PRICES = st.integers(5, 120)
ITEMS = st.lists(st.integers(0, 119), min_size=1, max_size=4, unique=True)
K = st.sampled_from([1, 5, 10, 25, 40])


def listed(items: list[int]) -> str:
    return str([f"item-{item:05}" for item in items])


HIDING = st.one_of(
    st.builds(lambda items: f'"block"\nitems = {listed(items)}', ITEMS),
    st.builds(lambda price: f'"block"\nfilter = "price < {price}"', PRICES),
    st.builds(lambda price: f'"only"\nfilter = "price < {price}"', PRICES),
    st.just('"in_stock"'),
    st.builds(lambda days: f'"bought_before"\ndays = {days}', st.sampled_from([0, 700, 100_000])),
)
MOVING = st.one_of(
    st.builds(lambda strength: f'"boost"\nfilter = "price < 40"\nstrength = {strength}', st.floats(0.1, 5)),
    st.builds(lambda strength: f'"bury"\ncolumn = "price"\nstrength = {strength}', st.floats(0.1, 5)),
)
PLACING = st.one_of(
    st.builds(lambda items, place: f'"pin"\nitems = {listed(items)}\nplace = {place}', ITEMS, st.integers(1, 9)),
    st.builds(lambda price, place: f'"slot"\nfilter = "price > {price}"\nplace = {place}', PRICES, st.integers(1, 9)),
    st.builds(lambda price, n: f'"floor"\nfilter = "price > {price}"\nleast = {n}', PRICES, st.integers(1, 4)),
)
CAPS = st.one_of(
    st.builds(lambda most: f'"cap"\ncolumn = "brand"\nmost = {most}', st.integers(1, 3)),
    st.builds(lambda most, n: f'"cap"\ncolumn = "category"\nmost = {most}\nwithin = {n}', st.integers(1, 3), K),
)
RULES = st.tuples(*(st.lists(some, max_size=2) for some in (HIDING, MOVING, PLACING, CAPS)))
REQUESTS = st.fixed_dictionaries(
    {
        "k": K,
        "diversity": st.sampled_from([0.0, 0.0, 0.5]),
        "diversify_by": st.sampled_from(["mmr", "dpp"]),
        "filters": st.sampled_from([None, None, "price > 20", "price < 50"]),
        "filter_seen": st.sampled_from([None, True, False]),
        "rerank": st.just(False),
    }
)
WHO = st.one_of(
    st.builds(lambda user: {"user_id": f"shopper-{user:05}"}, st.integers(0, 160)),
    st.builds(lambda items: {"history": [f"item-{item:05}" for item in items]}, ITEMS),
    st.builds(lambda items: {"history": [f"item-{item:05}" for item in items], "task": "complete_cart"}, ITEMS),
    st.builds(lambda item: {"history": [f"item-{item:05}"], "task": "similar"}, st.integers(0, 119)),
    st.sampled_from([{"query": "red mug"}, {"query": "item-00007"}, {"query": "garden chiar"}, {}]),
)


@pytest.fixture(scope="module")
def shop(engine: Engine) -> Engine:
    """An engine of several sources with a short shortlist, so that rules have to ask for more."""
    return changed(Engine(with_fusion(engine.state)), shortlist=10)


@settings(max_examples=40)
@given(rules=RULES, asked=REQUESTS, who=WHO)
def test_whatever_is_asked_under_whatever_rules(
    shop: Engine, data: DataSet, rules: tuple[list[str], ...], asked: dict[str, Any], who: dict[str, Any]
) -> None:
    engine = ruled(shop, "".join(f"\nkind = {rule}" for some in rules for rule in some))
    request, version, state = Request(**(asked | who)), engine.state.version, engine.state
    found = engine.answer(request)
    rows = version.rows_of(ids(found))
    assert len(set(rows.tolist())) == len(rows) <= request.k

    plain = shop.answer(replace(request, k=120, diversity=0.0))
    free = set(version.rows_of(ids(plain)).tolist())
    seen = _seen(engine, request)
    assert state.rules is not None
    every = [one for one in state.rules.prepared if one.mask is not None]
    for one in every:
        assert one.mask is not None
        if one.rule.kind == "block":
            free -= set(np.flatnonzero(one.mask).tolist())
        elif one.rule.kind in ("only", "in_stock"):
            free &= set(np.flatnonzero(one.mask).tolist())
    bought = [one.rule.days or 0 for one in state.rules.prepared if isinstance(one.rule, BoughtBefore)]
    if bought:
        gone = {row for row, age in seen.items() if any(age < days for days in bought)}
        free = (free | _allowed_again(shop, request, seen) & _hidden_free(state, every)) - gone
    assert set(rows.tolist()) <= free

    caps = [(one.codes, one.rule) for one in state.rules.prepared if one.codes is not None]

    def broken(items: list[int]) -> bool:
        for codes, rule in caps:
            assert isinstance(rule, Cap)
            held = codes[items[: rule.within]]
            if max(Counter(held[held >= 0].tolist()).values(), default=0) > rule.most:
                return True
        return False

    assert not broken(rows.tolist())
    if len(rows) < request.k:
        assert all(broken([*rows.tolist(), row]) for row in free - set(rows.tolist()))
    assert engine.answer(request).items == found.items


def _seen(engine: Engine, request: Request) -> dict[int, float]:
    """What the shopper took, with the days since."""
    users, codes = engine.state.user_contexts.of_request(request), engine.state.user_contexts.taking_codes
    newest = {
        row: NOW - users.events.times[0] / 1e6 if len(users.events.times) else 0.0 for row in users.taken.rows.tolist()
    }
    for row, kind, time in zip(users.events.items.rows.tolist(), users.events.kinds, users.events.times, strict=True):
        if kind in codes and row in newest:
            newest[row] = NOW - time / 1e6
    return {row: seconds / 86_400 for row, seconds in newest.items()}


def _allowed_again(shop: Engine, request: Request, seen: dict[int, float]) -> set[int]:
    """What filter_seen would hide, and re-buy rules show."""
    every = shop.answer(replace(request, k=120, diversity=0.0, filter_seen=False))
    return set(shop.state.version.rows_of(ids(every)).tolist()) & set(seen)


def _hidden_free(state: Any, every: list[Any]) -> set[int]:
    """What no other rule hides."""
    left = set(range(state.version.size))
    for one in every:
        hidden = one.mask if one.rule.kind == "block" else ~one.mask
        left -= set(np.flatnonzero(hidden).tolist()) if one.rule.kind in ("block", "only", "in_stock") else set()
    return left
