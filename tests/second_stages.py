"""Second stages whose order is known, and releases that answer by them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from indexing.bundle.bundle import Bundle
from indexing.bundle.releases import Release
from ranking.feature_ranker.inputs import Inputs
from ranking.feature_ranker.linear import LinearRanker
from ranking.feature_ranker.protocol import FeatureRanker
from ranking.ordering.gate import gate
from retrieval.encoders.runtime import RuntimeOptions
from serving.answering.release_settings import OrderName
from serving.answering.release_state import ReleaseState
from serving.answering.second_stage import SecondStage
from serving.jobs.second_stage_job import with_second_stage

PASSED = {"features": {**gate(np.zeros(40), np.full(40, 0.1)).as_json(), "required": "likely", "on": True}}


def by_one(feature: str, weight: float = 1.0) -> LinearRanker:
    """A ranker that orders by one feature alone."""
    inputs = Inputs(np.zeros(1, np.float32), np.ones(1, np.float32), np.empty(0, np.int64))
    return LinearRanker((feature,), inputs, np.full(1, weight, np.float32), 0.0)


def published(path: Path, rankers: Mapping[OrderName, FeatureRanker], name: str = "by-features") -> Release:
    """The live release of a bundle with these rankers, the gates of their orders' tasks passed, and no other gate."""
    bundle = Bundle.open(path)
    live = bundle.current()
    facts = ReleaseState.of_release(bundle, live, RuntimeOptions(device="cpu")).facts
    tasks = {"search" if order == "search" else "recommend" for order in rankers}
    draft = replace(live, id=name, created="2027-01-01T00:00:00+00:00", gates=dict.fromkeys(tasks, PASSED))
    with bundle.lock():
        return bundle.publish(with_second_stage(bundle, draft, SecondStage(dict(rankers)), facts))
