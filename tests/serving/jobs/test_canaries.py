"""Canaries: requests whose answer is known, chosen of a shop, stored, and asked of two releases."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from indexing.bundle.bundle import Bundle
from retrieval.errors import CorruptBundle
from serving.engine import Engine
from serving.jobs.canaries import (
    FILE,
    Canary,
    CanaryAnswers,
    answers_of,
    canaries_of,
    canary_gates,
    read_canaries,
    user_vectors,
    write_canaries,
)
from serving.settings import RunSettings
from serving.shop import Shop


@pytest.fixture(scope="module")
def shop(sample_folder: Path, quick_settings: RunSettings, open_shop: Callable[[Path, RunSettings], Shop]) -> Shop:
    return open_shop(sample_folder, quick_settings)


def answers(*lists: str, right: list[list[str]] | None = None, towers: str = "t") -> CanaryAnswers:
    """What was answered, an item a letter; the first item of each is right unless said."""
    found = [list(one) for one in lists]
    return CanaryAnswers(found, found, np.zeros((0, 4), np.float32), right or [[one[0]] for one in lists], towers)


def test_canaries_are_requests_that_no_tower_learned_from(shop: Shop) -> None:
    assert shop.events is not None
    assert shop.judgements is not None
    canaries = canaries_of(shop, limit=20)
    searches = [canary for canary in canaries if canary.query]
    recommended = [canary for canary in canaries if not canary.query]
    assert 0 < len(searches) <= 20
    assert 0 < len(recommended) <= 20
    asked = set(shop.query_texts(shop.judgements.folds["gate"]))
    assert {canary.query for canary in searches} <= asked
    gate = shop.events.folds["gate"]
    targets = {tuple(shop.data.item_ids[row] for row in gate.targets(line)) for line in range(len(gate))}
    assert {canary.wanted for canary in recommended} <= targets
    assert all(canary.history and canary.wanted for canary in recommended)


def test_a_catalogue_alone_is_asked_for_its_titles(shop: Shop) -> None:
    canaries = canaries_of(Shop(shop.data, None, None), limit=10)
    titles = dict(zip(shop.data.item_ids, shop.data.items["title"].to_pylist(), strict=True))
    assert len({canary.wanted for canary in canaries}) == 10
    assert all(canary.query == titles[canary.wanted[0]] for canary in canaries)


def test_a_run_stores_the_canaries_of_its_shop(shop: Shop, bundle_path: Path) -> None:
    store = Bundle.open(bundle_path)
    assert read_canaries(store.path_of("canaries", str(store.current().canaries))) == canaries_of(shop)


def test_what_was_written_is_read_and_a_damaged_file_is_named(tmp_path: Path) -> None:
    canaries = [Canary(wanted=("a",), query="☃ mug"), Canary(wanted=("b", "c"), history=("d",))]
    write_canaries(tmp_path, canaries)
    assert read_canaries(tmp_path) == canaries
    for damaged in ('[{"wanted": ["a"]}]', "{", "[1]", '[{"wanted": [], "history": [], "other": 1}]'):
        (tmp_path / FILE).write_text(damaged)
        with pytest.raises(CorruptBundle, match=FILE):
            read_canaries(tmp_path)


def test_answers_are_those_of_the_engine_before_reranking(engine: Engine, shop: Shop) -> None:
    canaries = canaries_of(shop, limit=3)
    found = answers_of(engine.state, canaries)
    ids = set(shop.data.item_ids)
    assert found.right == [[item for item in canary.wanted if item in ids] for canary in canaries]
    for canary, one in zip(canaries, found.lists, strict=True):
        answer = (
            engine.search(canary.query, k=100, rerank=False)
            if canary.query
            else engine.recommend(history=canary.history, k=100, rerank=False)
        )
        assert one == [hit.item_id for hit in answer.items]
    assert user_vectors(engine.state, canaries).shape == (len(canaries), engine.state.version.dim)


def test_a_canary_of_which_nothing_is_known_has_no_vector(engine: Engine) -> None:
    unknown = Canary(wanted=("a",), history=("no such item",))
    assert not user_vectors(engine.state, [unknown]).any()
    assert len(user_vectors(engine.state, [])) == 0
    known = Canary(wanted=("a",), query="red mug")
    assert len(answers_of(engine.state, [unknown, known]).queries) == 1


def test_the_same_answers_pass_every_gate_and_others_none() -> None:
    one, other = answers("abcdefghijkl"), answers("mnopqrstuvwx", right=[["a"]])
    assert [gate.passed for gate in canary_gates(one, one)] == [True] * 4
    many = answers(*["abcdefghijkl"] * 100)
    lost = answers(*["mnopqrstuvwx"] * 100, right=[["a"]] * 100)
    assert [gate.passed for gate in canary_gates(lost, many)] == [False] * 4
    assert canary_gates(other, one)[2].figures["overlap"] == 0.0


def test_other_towers_may_answer_otherwise_if_they_find_as_much() -> None:
    before, after = answers("abcdefghijk"), answers("alxyzuvwstr", towers="others")
    assert [gate.name for gate in canary_gates(after, before)] == ["canaries recall@10", "canaries recall@100"]


def test_what_is_right_counts_as_far_as_both_releases_hold_it() -> None:
    before = answers("abc", "def", right=[["a", "b"], ["d"]])
    after = answers("acb", "efg", right=[["a"], []])
    recall, _, overlap, _ = canary_gates(after, before)
    assert (recall.figures["n"], recall.figures["recall"], recall.figures["live"]) == (1, 1.0, 1.0)
    assert overlap.figures == {"n": 1, "overlap": 1.0, "wanted": 0.5}
    assert canary_gates(answers("x", right=[[]]), answers("y", right=[["y"]])) == []


def test_an_index_that_is_wrong_is_seen_behind_sources_that_fill_the_first_places() -> None:
    before = answers("abc", "def")
    wrong = before._replace(nearest=[list("xyz"), list("uvw")])
    assert [gate.name for gate in canary_gates(wrong, before) if not gate.passed] == [
        "canaries in the index alone overlap@10"
    ]


def test_what_a_later_version_does_not_hold_counts_as_deleted(engine: Engine) -> None:
    ids = engine.state.version.ids.to_pylist()
    found = answers("x")._replace(
        lists=[["gone", ids[0], "gone too", ids[5]]], nearest=[["gone", ids[5]]], right=[[ids[0]]]
    )
    assert found.left_in(engine.state.version) == found._replace(lists=[[ids[0], ids[5]]], nearest=[[ids[5]]])
