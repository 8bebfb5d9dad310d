"""The small table of README names our best stage and the best of all else."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from benchmarks.reporting.headline import HEADS, headline
from benchmarks.result_lines import Line, Run, append, sampled
from retrieval.errors import BadData


def quality(stages: Mapping[str, float], metric: str, n: float = 90.0) -> list[Line]:
    return [
        Line(
            measured="quality",
            labels={"task": "search", "stage": stage, "metric": metric},
            unit="share",
            summary={"mean": mean, "n": n},
        )
        for stage, mean in stages.items()
    ]


@pytest.fixture
def results(tmp_path: Path, make_run: Callable[..., Run]) -> Path:
    """Results of one data set, its peers and its calls."""
    own = [*quality({"fused": 0.3, "retrieval": 0.2, "bm25": 0.1}, "ndcg@10"), *quality({"final": 0.9}, "ndcg@10", 5.0)]
    append(tmp_path / "homedepot.jsonl", make_run(), [*own, *quality({"fused": 0.5}, "recall@100")])
    append(tmp_path / "homedepot-peers.jsonl", make_run(), quality({"als": 0.25}, "ndcg@10"))
    about = [("search", "end to end", 30.0), ("search", "rerank", 20.0), ("similar", "end to end", 5.0)]
    lines = [sampled("latency", {"call": call, "stage": stage}, "ms", [ms] * 30) for call, stage, ms in about]
    append(tmp_path / "homedepot-latency.jsonl", make_run(), lines)
    return tmp_path


def test_a_row_has_our_best_stage_the_best_other_and_the_median_of_a_call(results: Path) -> None:
    heads, row = headline(results, ["homedepot"])
    assert heads == list(HEADS)
    assert row == ["Home Depot, 54,667 titles", "search", "**.3000**", ".2500 (ALS)", "**.5000**", "–", "30"]


def test_an_unknown_data_set_and_missing_results_are_refused(results: Path) -> None:
    with pytest.raises(BadData, match="there are homedepot, beauty"):
        headline(results, ["elsewhere"])
    with pytest.raises(BadData, match=r"beauty\.jsonl"):
        headline(results, ["beauty"])
