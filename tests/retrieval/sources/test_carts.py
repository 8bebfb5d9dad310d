"""Sources that read a cart: what else baskets held, and what the shop says goes with its items."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.sparse import csr_array

from retrieval.sources.carts import CartNeighbours, related_rows
from retrieval.sources.cooccurrence import BASKETS, same_basket
from retrieval.sources.registry import FitCase, sources_for
from retrieval.topk import CSR
from source_requests import N, asked, every_pair

RELATED = csr_array(np.array([[0, 0, 2, 0], [0, 0, 1, 0], [0, 0, 0, 0], [4, 0, 0, 0]], np.float32))


def test_two_items_are_related_by_the_baskets_that_hold_both() -> None:
    found = same_basket(CSR.from_lists([[0, 1], [0, 1], [0, 2, 3, 4], [5]]), N).toarray()
    wanted = 2 / np.sqrt(2) / ((3 + BASKETS) * np.sqrt(2 + BASKETS))
    assert found[0, 1] == pytest.approx(wanted, rel=1e-5)
    assert found[0, 2] == pytest.approx(1 / np.sqrt(4) / ((3 + BASKETS) * np.sqrt(1 + BASKETS)), rel=1e-5)
    assert not found.diagonal().any()
    assert not found[5].any()
    assert not found[1, 2]


def test_an_item_of_many_baskets_says_less_of_each_other_item() -> None:
    common = [[0, one] for one in (1, 2, 3, 4, 5)] * 4 + [[1, 5]] * 4
    found = same_basket(CSR.from_lists(common), N).toarray()
    assert found[1, 5] > found[0, 5]


@pytest.mark.parametrize("neighbours", [1, 2])
def test_the_nearest_of_each_item_are_kept(neighbours: int) -> None:
    baskets = CSR.from_lists([[0, 1, 2], [0, 1], [0, 3, 1]])
    whole, some = same_basket(baskets, N).toarray(), same_basket(baskets, N, neighbours=neighbours).toarray()
    for row in range(N):
        kept = np.flatnonzero(some[row])
        assert len(kept) == min(neighbours, (whole[row] > 0).sum())
        assert set(whole[row][kept]) == set(np.sort(whole[row])[::-1][: len(kept)])


def test_a_cart_is_completed_by_what_all_its_items_are_related_to() -> None:
    scores = CartNeighbours(RELATED).read(asked([[0, 1], [3], []])).at(every_pair(3)).reshape(3, N)
    np.testing.assert_allclose(scores[0], [0, 0, np.log1p(3), 0, 0, 0], rtol=1e-6)
    np.testing.assert_allclose(scores[1], [np.log1p(4), 0, 0, 0, 0, 0], rtol=1e-6)
    assert not scores[2].any()


def test_the_history_of_a_shopper_is_no_cart() -> None:
    requests = asked([[0, 1]])._replace(cart=CSR.empty(1))
    assert (CartNeighbours(RELATED).read(requests).top(N).rows < 0).all()


def test_items_that_were_added_later_are_related_to_nothing() -> None:
    assert related_rows(CSR.from_lists([[0, 9], [9]]), RELATED).rows.tolist() == [2]


def test_carts_alone_weigh_what_reads_carts() -> None:
    of_carts = {"same_basket", "complements"}
    assert of_carts <= set(sources_for(FitCase(order="complete_cart")))
    for order in ("recommend", "recommend_unseen", "search"):
        assert not of_carts & set(sources_for(FitCase(order=order)))
