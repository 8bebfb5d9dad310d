"""What diversity of answers gives up and wins, on a tiny bundle."""

from __future__ import annotations

from itertools import pairwise, product
from pathlib import Path

import pytest

from benchmarks.quality.diversity import STRENGTHS, DiversityCost
from indexing.bundle.bundle import Bundle
from serving.cli.options import settings_of
from serving.internals import Engine, Measurement, Pipeline, index_ids, recorded_settings


def test_unlike_items_are_won_and_relevance_given_up_by_either_method(
    bundle: Path, shop_folder: Path, tmp_path: Path
) -> None:
    opened = Bundle.open(bundle)
    settings = settings_of(base=recorded_settings(opened))
    pipeline = Pipeline(shop_folder, bundle, settings, device="cpu", say=lambda _: None, scratch=tmp_path)
    shop = pipeline.open_shop(like=index_ids(opened, opened.current()))
    with Engine.open(bundle, device="cpu", auto_reload=False) as engine:
        recommended = "seen_removed" if engine.state.filter_seen else "seen_kept"
        lines = list(DiversityCost(Measurement(engine.state, shop, 5), timed=3).lines())
    found = {tuple(line.labels.values()): line.summary for line in lines}
    strengths = [f"{one:g}" for one in STRENGTHS]
    assert list(found) == [
        (task, *how) for task in (recommended, "search") for how in [("none", "0"), *product(("mmr", "dpp"), strengths)]
    ]
    for task, method in product((recommended, "search"), ("mmr", "dpp")):
        plain = found[task, "none", "0"]
        assert (plain["of that without"], plain["ms"]) == (1.0, None)
        rising = [plain, *(found[task, method, strength] for strength in strengths)]
        for less, more in pairwise(rising):
            assert less["unlikeness"] < more["unlikeness"]  # type: ignore[operator]
            assert more["of that without"] == pytest.approx(more["ndcg@10"] / plain["ndcg@10"])  # type: ignore[operator]
            assert more["ms"] > 0  # type: ignore[operator]
        assert plain["distinct categories"] <= rising[-1]["distinct categories"]  # type: ignore[operator]
