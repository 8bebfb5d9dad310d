"""Gates as a release holds them: a verdict for each task that could be judged, and what it lets on."""

from __future__ import annotations

from types import SimpleNamespace
from typing import cast

import numpy as np
import pytest

from ranking.ordering.blend import Blend
from ranking.ordering.gate import Verdict, gate
from retrieval.sources.fusion import Fusion
from serving.answering.release_settings import passed
from serving.evaluation.evaluator import Gated, Measurement
from serving.evaluation.gate_report import judged

BETTER = gate(np.zeros(40), np.full(40, 0.1))


def measured(**verdicts: object) -> Measurement:
    step = SimpleNamespace(blend=lambda task: Blend(1.0, 2.0 if task == "search" else 0.5))
    return cast(
        "Measurement",
        SimpleNamespace(
            stages=SimpleNamespace(
                steps=(SimpleNamespace(), step),
                retriever=SimpleNamespace(
                    fusion=lambda task: Fusion({"towers": 3.0, "words": 1.0 * (task == "search")})
                ),
            ),
            gate_recommend=lambda: verdicts.get("recommend"),
            gate_search=lambda: verdicts.get("search"),
        ),
    )


def test_a_task_without_a_gate_fold_has_no_gate() -> None:
    assert judged(measured(), "likely", say=lambda _: None) == {}


@pytest.mark.parametrize(("required", "on"), [("likely", {"search"}), ("no", {"search", "recommend"})])
def test_reranking_is_on_where_the_verdict_is_as_good_as_required(required: Verdict, on: set[str]) -> None:
    said: list[str] = []
    worse = gate(np.full(40, 0.1), np.zeros(40))
    gated = measured(search=Gated(BETTER, {"bm25": worse}), recommend=Gated(worse, {}))
    gates = judged(gated, required, say=said.append)
    assert passed(gates) == on
    assert gates["search"]["blend"] == Blend(1.0, 2.0).as_json()  # that of the last step
    assert gates["search"]["weights"] == {"logit": 1.0, "towers": 6.0, "words": 2.0}
    assert gates["recommend"]["weights"] == {"logit": 1.0, "towers": 1.5}
    assert gates["search"]["against"] == {"bm25": worse.as_json()}  # which decides nothing
    assert [line.split(": ")[0] for line in said] == ["gate, recommend", "gate, search", "gate, search, against bm25"]
