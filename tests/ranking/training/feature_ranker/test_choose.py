"""The choice between kinds: by a margin, by what data and packages allow; refitted with what was found."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from feature_lists import SIZE, Floats, chosen_lists, interaction, linear_utility
from ranking.feature_ranker.linear import LinearRanker
from ranking.feature_ranker.lists import TrainingLists
from ranking.training.feature_ranker import choose as module
from ranking.training.feature_ranker.choose import (
    MIN_LISTS,
    Chosen,
    Fitter,
    choose,
    known_kinds,
    orders_better,
    refit,
    register_fitter,
)
from ranking.training.feature_ranker.linear import fit_linear
from retrieval import extras
from retrieval.errors import BadConfig, MissingDependency


def chosen_of(train: TrainingLists, valid: TrainingLists, *kinds: str) -> Chosen:
    chosen = choose(train, valid, kinds)
    assert chosen is not None
    return chosen


def test_the_kinds_stand_in_the_order_of_their_complexity() -> None:
    assert known_kinds()[:3] == ("linear", "lambdamart", "mlp")


def test_what_linear_can_hold_is_left_to_linear_and_every_kind_is_recorded() -> None:
    train, valid = chosen_lists(400, linear_utility), chosen_lists(150, linear_utility, seed=1)
    said: list[str] = []
    chosen = choose(train, valid, say=said.append)
    assert chosen is not None
    assert (chosen.kind, chosen.ranker.kind) == ("linear", "linear")
    figures = chosen.figures
    assert set(figures["kinds"]) >= {"linear", "lambdamart", "mlp"}
    assert (figures["lists"], figures["valid_lists"], figures["features"]) == (400, 150, 5)
    linear = figures["kinds"]["linear"]
    assert linear["ndcg"] == pytest.approx(figures["base_ndcg"] + linear["gain"])
    assert 0 < linear["standard_error"] < linear["gain"]
    assert json.loads(json.dumps(figures)) == figures
    assert any(line.startswith("linear: nDCG@10") for line in said)


def test_an_interaction_is_left_to_the_trees_or_the_network() -> None:
    train, valid = chosen_lists(500, interaction), chosen_lists(150, interaction, seed=1)
    assert chosen_of(train, valid, "linear", "lambdamart").kind == "lambdamart"
    assert chosen_of(train, valid, "linear", "mlp").kind == "mlp"


class LinearWith:
    """A fit of linear rankers whose prior has a given standard deviation: the wider it is, the better they order."""

    def __init__(self, prior_sd: float) -> None:
        self.prior_sd = prior_sd

    def __call__(self, lists: TrainingLists, valid: TrainingLists | None, found: Any, **_: Any) -> tuple[Any, Any]:
        return fit_linear(lists, prior_sd=self.prior_sd)[0], {}


@pytest.fixture
def fitters(monkeypatch: pytest.MonkeyPatch) -> dict[str, Fitter]:
    alone: dict[str, Fitter] = {}
    monkeypatch.setattr(module, "_FITTERS", alone)
    return alone


def test_a_kind_that_is_better_by_less_than_its_doubt_is_not_taken(fitters: dict[str, Fitter]) -> None:
    register_fitter(Fitter("simple", MIN_LISTS, (), LinearWith(0.5)))
    register_fitter(Fitter("same", MIN_LISTS, (), LinearWith(0.5001)))
    train, valid = chosen_lists(60, linear_utility), chosen_lists(60, linear_utility, seed=1)
    assert chosen_of(train, valid).kind == "simple"
    register_fitter(Fitter("better", MIN_LISTS, (), LinearWith(3.0)))
    fitters["simple"] = Fitter("simple", MIN_LISTS, (), LinearWith(1e-4))
    fitters["same"] = Fitter("same", MIN_LISTS, (), LinearWith(1e-4))
    assert chosen_of(train, valid).kind == "better"


def test_a_shop_with_few_lists_gets_linear_alone_and_one_with_fewer_nothing() -> None:
    valid = chosen_lists(100, linear_utility, seed=1)
    said: list[str] = []
    chosen = choose(chosen_lists(100, linear_utility), valid, say=said.append)
    assert chosen is not None
    assert list(chosen.figures["kinds"]) == ["linear"]
    assert any(line.startswith("mlp is not tried: 100 lists") for line in said)
    assert choose(chosen_lists(MIN_LISTS - 1, linear_utility), valid) is None
    uninformative = TrainingLists(
        np.zeros((600, 1), np.float32), np.zeros(600, np.float32), np.zeros(600, np.float32), np.arange(601), ("a",)
    )
    assert choose(uninformative, uninformative) is None


def test_without_validation_lists_linear_is_taken_and_the_figures_say_so() -> None:
    nothing = chosen_lists(400, linear_utility).select([])
    chosen = chosen_of(chosen_lists(400, linear_utility), nothing)
    assert (chosen.kind, chosen.figures["valid_lists"], chosen.figures["base_ndcg"]) == ("linear", 0, None)
    assert list(chosen.figures["kinds"]) == ["linear"]


def test_a_kind_whose_package_is_missing_is_left_out_and_raises_where_it_alone_was_asked_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(extras, "find_spec", lambda name: None)
    train, valid = chosen_lists(300, linear_utility), chosen_lists(50, linear_utility, seed=1)
    said: list[str] = []
    chosen = choose(train, valid, say=said.append)
    assert chosen is not None
    assert list(chosen.figures["kinds"]) == ["linear"]
    assert any("pip install 'shortlist[lambdamart]'" in line for line in said)
    with pytest.raises(MissingDependency, match=r"feature ranker lambdamart needs lightgbm.*shortlist\[lambdamart\]"):
        choose(train, valid, ["lambdamart"])


def test_an_unknown_kind_and_a_name_that_is_taken_are_refused() -> None:
    lists = chosen_lists(MIN_LISTS, linear_utility)
    with pytest.raises(BadConfig, match="kind forest; take one of linear"):
        choose(lists, lists, ["forest"])
    with pytest.raises(BadConfig, match="already registered"):
        register_fitter(Fitter("linear", 1, (), LinearWith(1.0)))


@pytest.mark.parametrize("kind", ["linear", "lambdamart", "mlp"])
def test_a_refit_is_the_fit_on_the_new_lists_with_what_was_found(kind: str) -> None:
    train, valid = chosen_lists(120, interaction), chosen_lists(60, interaction, seed=1)
    chosen = chosen_of(train, valid, kind)
    again = refit(chosen, train)
    features, base = valid.features, valid.base
    np.testing.assert_allclose(again.score(features, base), chosen.ranker.score(features, base), atol=1e-3)
    more = refit(chosen, TrainingLists.join([train, valid]))
    assert (more.kind, more.names) == (kind, train.names)
    assert not np.allclose(more.score(features, base), chosen.ranker.score(features, base), atol=1e-2)
    gained = valid.ndcg(more.score(features, base)).mean() - valid.ndcg(chosen.ranker.score(features, base)).mean()
    assert gained > -0.01


def test_validation_lists_may_have_their_columns_in_another_order() -> None:
    def utility(features: Floats, base: Floats) -> Floats:
        return 4 * features[:, 0]

    train, valid = chosen_lists(100, utility), chosen_lists(50, utility, seed=1)
    chosen = chosen_of(train, valid.with_columns(valid.names[::-1]), "linear")
    assert chosen.figures["kinds"]["linear"]["gain"] > 0.3
    assert isinstance(chosen.ranker, LinearRanker)
    assert len(valid.base) == 50 * SIZE


def test_a_ranker_orders_better_only_by_more_than_chance() -> None:
    lists, valid = chosen_lists(300, interaction), chosen_lists(100, interaction, seed=1)
    trees, linear = (choose(lists, valid, (kind,)) for kind in ("lambdamart", "linear"))
    assert trees is not None
    assert linear is not None
    assert orders_better(trees.ranker, linear.ranker, valid)
    assert not orders_better(linear.ranker, trees.ranker, valid)
    assert not orders_better(trees.ranker, trees.ranker, valid)
