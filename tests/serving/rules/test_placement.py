"""The places of one answer under pins, slots, floors and caps."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.rules.load import parse_rules
from serving.rules.placement import Constraints, Placement, chosen
from serving.rules.prepared import Prepared

ROWS = np.arange(8)
BRANDS = np.array([0, 0, 0, 1, 1, 2, 2, -1])


def rule(kind: str, **fields: object) -> Any:
    lines = "\n".join(f"{name} = {value!r}" for name, value in fields.items())
    return parse_rules(f'[[rule]]\nname = "{kind}"\nkind = "{kind}"\n{lines}\n').rules[0]


def cap(most: int, codes: np.ndarray = BRANDS, **more: int) -> Prepared:
    return Prepared(rule("cap", column="brand", most=most, **more), codes=codes)


def of_items(kind: str, *rows: int, **fields: int) -> Prepared:
    mask = np.isin(ROWS, rows)
    return Prepared(rule(kind, items=["x"], **fields), mask=mask, rows=np.array(rows))


def filled(k: int, rows: np.ndarray = ROWS, front: tuple[int, ...] = (), **rules: Any) -> list[int]:
    return Placement(Constraints(**rules), rows, np.isin(rows, front), k).filled()


@pytest.mark.parametrize(
    ("k", "rules", "wanted"),
    [
        (4, {}, [0, 1, 2, 3]),
        (4, {"caps": [cap(1)]}, [0, 3, 5, 7]),
        (8, {"caps": [cap(1)]}, [0, 3, 5, 7]),  # no more are allowed
        (6, {"caps": [cap(1, within=3)]}, [0, 3, 5, 1, 2, 4]),
        (4, {"pins": [of_items("pin", 6, 5, place=2)]}, [0, 6, 5, 1]),
        (4, {"pins": [of_items("pin", 6, 5, place=2)], "caps": [cap(1)]}, [0, 6, 3, 7]),
        (3, {"slots": [of_items("slot", 0, 4, 6, place=2)]}, [0, 4, 1]),
        (3, {"slots": [of_items("slot", 0, place=2)]}, [0, 1, 2]),
        (4, {"floors": [of_items("floor", 5, 6, 7, least=2)]}, [0, 1, 5, 6]),
        (4, {"floors": [of_items("floor", 5, 6, 7, least=2)], "caps": [cap(1)]}, [0, 3, 5, 7]),
        (4, {"floors": [of_items("floor", 5, least=1, within=2), of_items("floor", 7, least=1)]}, [0, 5, 1, 7]),
        (4, {"floors": [of_items("floor", 5, least=1)], "pins": [of_items("pin", 6, place=4)]}, [0, 1, 5, 6]),
        (5, {"floors": [of_items("floor", 5, 6, least=2)], "slots": [of_items("slot", 3, place=5)]}, [0, 1, 5, 6, 3]),
    ],
)
def test_places_are_filled_as_the_rules_say(k: int, rules: dict[str, list[Prepared]], wanted: list[int]) -> None:
    assert filled(k, ROWS, (), **rules) == wanted


def test_what_stands_in_front_comes_before_what_is_pinned() -> None:
    assert filled(4, front=(7,), pins=[of_items("pin", 6, 5, place=1)]) == [7, 6, 5, 0]


def test_what_is_pinned_behind_the_end_of_an_answer_closes_up() -> None:
    assert filled(6, rows=np.array([0, 1, 5]), pins=[of_items("pin", 0, place=6)]) == [1, 2, 0]


def test_one_item_of_each_group_is_placed_the_pinned_one_first() -> None:
    groups = np.array([0, 0, 1, 1, 2, 3, 4, 5])
    rules = Constraints(pins=[of_items("pin", 3, place=1)], groups=groups)
    assert Placement(rules, ROWS, np.zeros(8, bool), 4).filled() == [3, 0, 4, 5]


def test_effects_name_what_placed_and_what_held_back() -> None:
    rules = Constraints(pins=[of_items("pin", 6, place=2)], caps=[cap(1, within=2)])
    placement = Placement(rules, ROWS, np.zeros(8, bool), 4)
    assert placement.filled() == [0, 6, 1, 2]
    assert placement.effects.placed == {6: "pin"}
    assert placement.effects.held == {}
    tight = Placement(Constraints(caps=[cap(1)]), ROWS, np.zeros(8, bool), 2)
    assert tight.filled() == [0, 3]
    assert tight.effects.held == {1: "cap", 2: "cap"}


def test_under_several_caps_the_order_of_retrieval_finds_as_many_as_there_are() -> None:
    sellers = np.array([0, 1, 0, 2])
    brands = np.array([0, 0, 1, 1])  # 0 and 3 go together, so do 1 and 2; in the order 0, 2 is lost to the seller
    rules = Constraints(caps=[cap(1, brands), cap(1, sellers)])
    rows, nothing = np.array([0, 1, 2]), np.zeros(3, bool)
    assert Placement(rules, rows, nothing, 2).filled() == [0]
    found, _ = chosen(rules, rows, nothing, 2, np.array([1, 2, 0]))
    assert found == [1, 2]


lists = st.lists(st.integers(-1, 3), min_size=8, max_size=8).map(np.array)
rows_of_items = st.sets(st.integers(0, 7), min_size=1, max_size=3).map(sorted)


@given(
    k=st.integers(1, 9),
    caps=st.lists(st.tuples(lists, st.integers(1, 3), st.integers(1, 9)), max_size=2),
    pins=st.lists(st.tuples(rows_of_items, st.integers(1, 6)), max_size=2),
    slots=st.lists(st.tuples(rows_of_items, st.integers(1, 6)), max_size=2),
    floors=st.lists(st.tuples(rows_of_items, st.integers(1, 3)), max_size=2),
    order=st.permutations(range(8)),
)
def test_whatever_the_rules_no_cap_is_broken_and_nothing_that_could_follow_is_left_out(
    k: int, caps: list[Any], pins: list[Any], slots: list[Any], floors: list[Any], order: list[int]
) -> None:
    rows = np.array(order)
    rules = Constraints(
        pins=[of_items("pin", *items, place=place) for items, place in pins],
        slots=[of_items("slot", *items, place=place) for items, place in slots],
        floors=[of_items("floor", *items, least=least) for items, least in floors],
        caps=[cap(most, codes, within=within) for codes, most, within in caps],
    )
    found = rows[Placement(rules, rows, np.zeros(8, bool), k).filled()].tolist()
    assert len(found) == len(set(found)) <= k

    def broken(items: list[int]) -> bool:
        return any(
            [codes[item] for item in items[:within]].count(value) > most
            for codes, most, within in caps
            for value in range(4)
        )

    assert not broken(found)
    if len(found) < min(k, 8):
        assert all(broken([*found, item]) for item in range(8) if item not in found)
    assert found == rows[Placement(rules, rows, np.zeros(8, bool), k).filled()].tolist()
