"""A ranker that no gate could switch on is not trained."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ranking.ordering.gate import gate
from retrieval.data.requests import Requests
from serving.fitting.provable import detectable_change, why_unprovable
from serving.settings import RankConfig, RunSettings
from serving.shop import Shop

Open = Callable[[Path, RunSettings], Shop]


@pytest.fixture
def shop(sample_folder: Path, quick_settings: RunSettings, open_shop: Open) -> Shop:
    return open_shop(sample_folder, quick_settings)


def with_gate(shop: Shop, queries: int, requests: int | None) -> Shop:
    """The shop with that many judged queries and requests of shoppers in its gate; without events where None."""
    assert shop.judgements is not None
    assert shop.events is not None
    asked = shop.judgements.folds["train"]
    judgements = replace(shop.judgements, folds={**shop.judgements.folds, "gate": (*asked, *asked, *asked)[:queries]})
    if requests is None:
        return replace(shop, judgements=judgements, events=None)
    test = Requests.join([shop.events.folds[name] for name in ("ranker_train", "test")])
    first = np.sort(np.unique(test.user, return_index=True)[1])  # a request of each shopper
    assert len(first) >= requests
    folds = {**shop.events.folds, "gate": test.select(first[:requests])}
    return replace(shop, judgements=judgements, events=replace(shop.events, folds=folds))


def test_a_few_judged_queries_say_why_and_what_to_do(shop: Shop) -> None:
    why = why_unprovable(with_gate(shop, 12, None), RankConfig())
    assert why is not None
    assert "12 judged queries cannot show a change of nDCG@10 below 0.20" in why
    assert "shoppers" not in why
    assert "ranking.min_gate" in why
    nothing = why_unprovable(with_gate(shop, 0, 0), RankConfig())
    assert nothing is not None
    assert "0 shoppers and 0 judged queries cannot show anything" in nothing


def test_enough_queries_or_enough_shoppers_are_enough(shop: Shop) -> None:
    assert why_unprovable(with_gate(shop, 60, None), RankConfig()) is None
    assert why_unprovable(with_gate(shop, 2, 50), RankConfig()) is None
    few = with_gate(shop, 12, None)
    assert why_unprovable(few, RankConfig(min_gate=12)) is None
    assert why_unprovable(few, RankConfig(gate="no")) is None, "nothing is asked for"


def test_the_detectable_change_is_that_of_the_gate() -> None:
    drawn = np.random.default_rng(0).normal(0, 0.25, 400)
    found = gate(np.zeros(400), drawn).mde
    assert found == pytest.approx(detectable_change(400), rel=0.1)
    assert detectable_change(RankConfig().min_gate) == pytest.approx(0.1, abs=0.01)
