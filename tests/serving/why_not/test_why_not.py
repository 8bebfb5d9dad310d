"""Why an item is not answered: the stage that lost it, by how much, and a change that does bring it in."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest

from engine_changes import changed, with_groups
from indexing.ann.protocols import VectorIndex
from retrieval.data.dataset import DataSet
from retrieval.sources.fusion import Fusion
from retrieval.topk import Hits
from ruled import ruled
from serving.engine import Engine
from serving.request import Request
from serving.why_not.result import WhyNot

SHORTLIST = 20


@pytest.fixture(scope="module")
def plain(engine: Engine) -> Engine:
    """The release ordered by its sources alone, with few candidates."""
    return changed(engine, scores=frozenset(), steps=(), shortlist=SHORTLIST)


@pytest.fixture(scope="module")
def user(data: DataSet) -> str:
    return str(data.user_ids[3])


def place_after(engine: Engine, request: Request, found: WhyNot) -> int | None:
    """Where the item stands once the change is made."""
    assert found.change is not None
    items = engine.answer(replace(request, **found.change.fields)).items  # type: ignore[arg-type]
    return next((place for place, hit in enumerate(items, 1) if hit.item_id == found.item_id), None)


def test_an_item_that_is_answered_is_said_to_be(plain: Engine, user: str) -> None:
    request = Request(user_id=user)
    item = plain.answer(request).items[3].item_id
    found = plain.why_not(request, item)
    assert (found.stage, found.reason.text(), found.change) == ("answered", "It is answered, at place 4.", None)


def test_an_unknown_item_has_no_place(plain: Engine) -> None:
    found = plain.why_not(Request(query="mug"), "nothing")
    assert (found.stage, found.reason.text("zh")) == ("unknown", "没有编号为 nothing 的商品。")


def test_a_candidate_behind_the_first_k_lacks_a_score_that_its_parts_sum_to(plain: Engine, user: str) -> None:
    request = Request(user_id=user, k=5)
    hits = plain.answer(replace(request, k=12)).items
    found = plain.why_not(request, hits[8].item_id)
    assert (found.stage, found.places) == ("retrieval", {"retrieval": 9})
    assert found.short_of == pytest.approx(hits[4].score - hits[8].score, abs=1e-4)
    assert sum(found.terms.values()) == pytest.approx(found.short_of, abs=1e-3)
    assert found.change is not None
    assert found.change.fields == {"k": 9}
    assert place_after(plain, request, found) == found.change.place == 9


def test_an_item_that_is_no_candidate_is_found_by_asking_for_more(plain: Engine, user: str) -> None:
    request = Request(user_id=user, filter_seen=False)
    deep = plain.answer(replace(request, k=60)).items[45].item_id
    found = plain.why_not(request, deep)
    assert found.stage == "retrieval"
    assert found.short_of is not None
    assert found.short_of > 0
    assert found.place_as_candidate == SHORTLIST + 1
    place = place_after(plain, request, found)
    assert place is not None
    assert place <= found.change.place  # type: ignore[union-attr]


def test_each_source_says_by_how_much_it_did_not_propose_an_item(engine: Engine) -> None:
    state = replace(engine.state.retriever, fusions={"search": Fusion({"towers": 1e-6, "words": 1.0})})
    words = changed(engine, scores=frozenset(), steps=(), shortlist=5, retriever=state)
    ranked = words.search("mug", k=100).items
    read = state.sources["words"].read(
        words.state.user_contexts.of_request(Request(query="mug")).behaviour._replace(queries=["mug"])
    )
    best = read.top(5)
    lost = next(hit for hit in reversed(ranked) if "words" not in hit.sources)
    gaps = words.why_not(Request(query="mug", k=3), lost.item_id).sources
    assert gaps["words"].score == 0.0
    proposed = int((best.rows[0] >= 0).sum())
    assert gaps["words"].last == (pytest.approx(float(best.scores[0, -1])) if proposed == 5 else None)
    assert gaps["towers"].last is not None
    assert gaps["towers"].score < gaps["towers"].last


def test_a_filter_is_named_with_what_the_item_has(plain: Engine, user: str) -> None:
    item = plain.recommend(user_id=user).items[0].item_id
    row = plain.state.version.rows_of([item])
    price = plain.state.version.values_at("price", row)[0].as_py()
    request = Request(user_id=user, filters=f"price < {price} and price > 0 or price > 1e9 and price > 2e9")
    found = plain.why_not(request, item)
    assert found.stage == "filtered"
    assert found.reason.text() == f"The filter price < {price} leaves it out: its price is {price}."
    assert found.change is not None
    assert found.change.fields == {"filters": "price > 0"}
    assert place_after(plain, request, found) == found.change.place == 1


def test_what_was_taken_comes_back_where_it_is_not_left_out(plain: Engine, data: DataSet) -> None:
    bought = data.item_ids[7]
    request = Request(history=[bought], filter_seen=True)
    found = plain.why_not(request, bought)
    assert (found.stage, found.reason.key) == ("excluded", "why_not.taken")
    assert found.change is not None
    assert found.change.fields["filter_seen"] is False
    assert place_after(plain, request, found) == found.change.place


def test_what_is_in_the_cart_is_not_answered(plain: Engine, data: DataSet) -> None:
    cart = [data.item_ids[7], data.item_ids[9]]
    found = plain.why_not(Request(task="complete_cart", history=cart), cart[0])
    assert (found.stage, found.reason.key) == ("excluded", "why_not.given")
    alone = plain.why_not(Request(task="similar", history=cart[:1]), cart[0])
    assert (alone.reason.key, alone.change) == ("why_not.given", None)


def test_several_changes_are_made_one_after_the_other(plain: Engine, data: DataSet) -> None:
    bought = data.item_ids[7]
    price = plain.state.version.values_at("price", plain.state.version.rows_of([bought]))[0].as_py()
    request = Request(history=[*data.item_ids[20:24], bought], filter_seen=True, filters=f"price != {price}", k=1)
    found = plain.why_not(request, bought)
    assert found.stage == "filtered"
    assert found.change is not None
    assert found.change.fields["filters"] is None
    assert found.change.fields["filter_seen"] is False
    assert place_after(plain, request, found) == found.change.place


@dataclass(frozen=True)
class Missing:
    """An index that misses a row."""

    exact: VectorIndex
    row: int
    is_exact: bool = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self.exact, name)

    def search(self, queries: np.ndarray, k: int, **options: Any) -> Hits:
        hits = self.exact.search(queries, k + 1, **options)
        kept = np.argsort(hits.rows == self.row, axis=1, kind="stable")[:, :k]
        return Hits(np.take_along_axis(hits.rows, kept, 1), np.take_along_axis(hits.scores, kept, 1))


def test_an_item_that_the_approximate_index_missed_is_known_as_such(engine: Engine) -> None:
    towers = changed(
        engine, scores=frozenset(), steps=(), shortlist=5,
        retriever=replace(engine.state.retriever, fusions={"search": Fusion.of_towers()}),
    )  # fmt: skip
    request = Request(query="red mug", k=3)
    best = towers.answer(request).items[0]
    row = int(towers.state.version.rows_of([best.item_id])[0])
    version = replace(towers.state.version, index=Missing(towers.state.version.index, row))
    missing = changed(towers, retriever=replace(towers.state.retriever, version=version))
    found = missing.why_not(request, best.item_id)
    assert (found.stage, found.reason.key) == ("retrieval", "why_not.approximate")
    assert found.sources["towers"].score == pytest.approx(best.score, abs=1e-5)
    assert found.place_as_candidate == 6
    assert found.short_of == 0.0


def test_what_the_cross_encoder_puts_behind_is_said_to_be_put_behind(reranking: Engine) -> None:
    lost = None
    for query in ("red mug", "blue lamp", "wood knife", "soap", "drill bits", "night cream"):
        request = Request(query=query, k=3)
        first = reranking.search(query, k=3, rerank=False).items
        left = {hit.item_id for hit in reranking.answer(request).items}
        lost = next((hit for hit in first if hit.item_id not in left), None)
        if lost is not None:
            break
    assert lost is not None
    found = reranking.why_not(request, lost.item_id)
    assert found.stage == "cross-encoder"
    assert list(found.places) == ["retrieval", "cross-encoder"]
    assert found.short_of is not None
    assert found.short_of > 0
    assert place_after(reranking, request, found) == found.change.place  # type: ignore[union-attr]


def test_what_diversity_moves_is_said_to_be_moved(plain: Engine) -> None:
    request = Request(query="mug", k=5, diversity=0.9)
    left = {hit.item_id for hit in plain.answer(request).items}
    lost = next(hit for hit in plain.search("mug", k=5).items if hit.item_id not in left)
    found = plain.why_not(request, lost.item_id)
    assert found.stage == "diversity"
    assert found.reason.text().startswith(f"Diversity moves it from place {lost.retrieval_rank} to place ")
    assert place_after(plain, request, found) is not None


def test_a_variant_is_behind_the_best_of_its_group(plain: Engine) -> None:
    grouped = Engine(with_groups(plain.state, lambda row: f"product-{row // 12}"))
    request = Request(query="mug", k=4)
    every = [hit.item_id for hit in grouped.search("mug", k=SHORTLIST, one_per_group=False).items]
    best, variant = next((hit, item) for hit in grouped.answer(request).items for item in every if item in hit.variants)
    found = grouped.why_not(request, variant)
    assert (found.stage, found.reason.text()) == ("groups", f"Its variant {best.item_id} stands before it.")
    assert found.change is not None
    assert found.change.fields["one_per_group"] is False
    assert place_after(grouped, request, found) == found.change.place
    similar = grouped.why_not(Request(task="similar", history=[best.item_id]), variant)
    assert (similar.stage, similar.reason.key) == ("excluded", "why_not.variant_given")


def test_a_less_popular_item_is_behind_the_popular_ones(plain: Engine) -> None:
    hits = plain.recommend(k=60).items
    found = plain.why_not(Request(), hits[50].item_id)
    assert (found.stage, found.reason.key) == ("retrieval", "why_not.less_popular")
    assert place_after(plain, Request(), found) == 51


def test_it_is_json_in_either_language(plain: Engine, user: str) -> None:
    request = Request(user_id=user, k=2)
    item = plain.answer(replace(request, k=9)).items[8].item_id
    told = json.loads(json.dumps(plain.why_not(request, item).to_dict("zh")))
    assert told["item_id"] == item
    assert told["reason"].startswith("召回将它排在第 9 位")
    assert told["change"] == {"fields": {"k": 9}, "place": 9, "text": "改用 k=9 请求，它会排在第 9 位。"}


def test_every_item_of_the_shop_has_an_explanation_that_holds(plain: Engine, user: str) -> None:
    request: Callable[..., Request] = lambda **more: Request(user_id=user, **more)  # noqa: E731
    answered = {hit.item_id for hit in plain.answer(request()).items}
    for item in plain.state.version.ids.to_pylist()[::7]:
        found = plain.why_not(request(), item)
        assert (found.stage == "answered") == (item in answered)
        if found.change is not None:
            place = place_after(plain, request(), found)
            assert place is not None
            assert place <= found.change.place


def test_a_rule_that_hides_or_buries_an_item_is_named(plain: Engine) -> None:
    request = Request(query="mug", k=4)
    lost = plain.answer(request).items[1].item_id
    hidden = ruled(plain, f'\nkind = "block"\nitems = ["{lost}"]\n').why_not(request, lost)
    assert (hidden.stage, hidden.change) == ("rules", None)
    assert "rule 0" in hidden.reason.text()
    burying = ruled(plain, f'\nkind = "bury"\nitems = ["{lost}"]\nstrength = 9\n')
    buried = burying.why_not(request, lost)
    assert (buried.stage, buried.reason.key) == ("rules", "why_not.moved_by_rules")
    assert buried.reason.text().endswith(": rule 0.")
    assert place_after(burying, request, buried) == buried.change.place  # type: ignore[union-attr]
    explained = burying.answer(replace(request, k=SHORTLIST, explain=True)).items
    (effect,) = next(hit.explanation.rules for hit in explained if hit.item_id == lost and hit.explanation)
    assert (effect.rule, effect.kind) == ("rule 0", "bury")
    assert effect.places < 0
