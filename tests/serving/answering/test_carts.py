"""Carts: what completes them, and what only stands in for what is in them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from scipy.sparse import csr_array

from engine_changes import changed, ids, with_fusion
from retrieval.sources.fusion import Fusion
from serving.engine import Engine
from serving.request import Request


def relating(engine: Engine, name: str, pairs: list[tuple[int, int]]) -> Engine:
    """The engine of a shop that relates some rows to others."""
    size, store = engine.state.version.size, engine.state.user_store
    rows, columns = zip(*pairs, strict=True)
    matrix = csr_array((np.ones(len(pairs), np.float32), (rows, columns)), (size, size))
    return changed(engine, user_store=replace(store, similarities={**store.similarities, name: lambda: matrix}))


def test_what_stands_in_for_an_item_of_a_cart_does_not_complete_it(engine: Engine) -> None:
    rows = np.arange(engine.state.version.size)
    cart, all_items = [engine.state.version.ids_of(rows[:1])[0]], engine.state.version.ids_of(rows)
    first = ids(engine.complete_cart(cart, k=5))[0]
    related = relating(engine, "replaces", [(0, all_items.index(first))])
    answered = ids(related.complete_cart(cart, k=len(rows)))
    assert first not in answered
    lost = related.why_not(Request(task="complete_cart", history=cart), first)
    assert (lost.stage, lost.reason.text()) == (
        "excluded",
        f"It stands in for {related.titles(cart)[0]}, which is in the cart, and does not complete it.",
    )
    assert len(answered) == len(rows) - 2
    assert first in ids(related.recommend(history=cart, k=len(rows), filter_seen=False))
    assert first in ids(related.complete_cart([first for first in all_items[1:2]], k=len(rows)))


def test_the_release_of_a_shop_with_baskets_weighs_what_they_held(engine: Engine) -> None:
    weights = engine.state.retriever.fusions["complete_cart"].weights
    assert weights["same_basket"] > 0
    assert "complements" not in weights


def test_what_the_shop_says_goes_with_a_cart_is_answered_first(engine: Engine) -> None:
    version = engine.state.version
    state = with_fusion(engine.state, complete_cart=Fusion({"towers": 0.01, "same_basket": 50.0}))
    cart = version.ids_of(np.arange(2))
    similar = state.user_store.similarities["baskets"]().toarray()[:2].sum(axis=0)
    similar[:2] = 0
    best = version.ids_of(np.array([similar.argmax()]))[0]
    answer = Engine(state).complete_cart(cart, k=3, rerank=False, filter_seen=False)
    assert answer.items[0].item_id == best
    assert "same_basket" in answer.items[0].sources
