"""Verdicts in words: what each part brings and whether it runs, for people who never saw a gate."""

from __future__ import annotations

import numpy as np
import pytest

from ranking.ordering.gate import gate
from serving.evaluation.figures import Figures
from serving.reporting.gate_words import gate_sentences

PROVEN = gate(np.zeros(228), np.full(228, 0.046)).as_json()
NOTHING = gate(np.full(228, 0.046), np.zeros(228)).as_json()


def said(gates: dict[str, Figures]) -> list[str]:
    return list(gate_sentences(gates))


def test_each_part_is_said_by_itself_with_its_interval_and_its_requests() -> None:
    features: Figures = {**PROVEN, "on": True, "required": "likely", "kind": "mlp"}
    found: Figures = {"features": features, **NOTHING, "on": False, "required": "likely"}
    assert said({"recommend": found}) == [
        "Recommendations: ordering by features is proven better than the sources alone "
        "(+.0460 nDCG@10, 95 % +.0460 to +.0460, 228 requests). "
        "The text model adds nothing that can be shown (-.0460 nDCG@10, 95 % -.0460 to -.0460, 228 requests); "
        "it does not run."
    ]


def test_a_part_alone_is_said_alone() -> None:
    features: Figures = {**NOTHING, "on": False, "required": "likely"}
    assert said({"search": {"features": features}}) == [
        "Search: ordering by features is not shown to be better than the sources alone "
        "(-.0460 nDCG@10, 95 % -.0460 to -.0460, 228 requests); it does not run."
    ]
    (line,) = said({"complete_cart": {**PROVEN, "on": True}})
    assert line.startswith("Carts: the text model is proven to put better items first than the sources alone (+.0460")
    assert said({"search": {"verdict": "adopted", "on": True}}) == [
        "Search: the text model was adopted as it is, without a gate."
    ]


def test_beside_an_order_by_features_the_text_model_is_held_against_that() -> None:
    features: Figures = {**PROVEN, "on": True}
    (line,) = said({"search": {"features": features, **PROVEN, "on": True}})
    assert "The text model is proven to put better items first than that order (" in line


@pytest.mark.parametrize(
    ("gate_of_text", "why"),
    [
        ({**PROVEN, "on": False, "blend": {"logit": 0.0}}, "its fitted weight is nothing, so it does not run"),
        ({**PROVEN, "verdict": "likely", "on": False, "required": "proven"}, "proven was asked, so it does not run"),
        ({**NOTHING, "on": True, "required": "no"}, "it runs, for no proof was asked"),
    ],
)
def test_why_a_part_runs_or_does_not_is_said_where_the_verdict_does_not_tell(gate_of_text: Figures, why: str) -> None:
    (line,) = said({"search": gate_of_text})
    assert line.endswith(f"; {why}.")


def test_the_same_is_said_in_chinese() -> None:
    features: Figures = {**PROVEN, "on": True}
    assert list(gate_sentences({"search": {"features": features, **NOTHING, "on": False}}, "zh")) == [
        "搜索：已证明特征排序优于仅用来源（nDCG@10 +.0460，95 % 区间 +.0460 至 +.0460，228 个请求）。"
        "文本模型没有带来可见的改进（nDCG@10 -.0460，95 % 区间 -.0460 至 -.0460，228 个请求）；未启用。"
    ]
