"""The stage that orders by features: what it reads of live requests is what is read of past ones."""

from __future__ import annotations

import numpy as np
import pytest

from plain_ranker import reading_every_feature
from retrieval.data.dataset import DataSet
from retrieval.data.time_units import DAY
from serving.answering.batch import Batch
from serving.answering.pipeline import run
from serving.answering.release_state import ReleaseState
from serving.answering.stages.read_user import LiveRequests
from serving.answering.stages.score import score
from serving.answering.tasks import TASKS
from serving.engine import Engine
from serving.evaluation.batch_requests import PastEvents, PastRequests
from serving.request import Request

ASKED = 500  # requests that offline and engine are compared on


@pytest.fixture(scope="module")
def state(engine: Engine) -> ReleaseState:
    """The release with every feature read."""
    return reading_every_feature(engine.state)


def features_by_item(batch: Batch) -> list[dict[int, np.ndarray]]:
    """The features of each request's candidates by row."""
    assert batch.scored is not None
    assert batch.scored.features is not None
    lines = zip(batch.candidates.hits.rows.tolist(), batch.scored.features, strict=True)
    return [dict(zip(rows, features, strict=True)) for rows, features in lines]


def assert_same(found: dict[int, np.ndarray], wanted: dict[int, np.ndarray], names: tuple[str, ...]) -> None:
    """The same candidates, every feature equal to 1e-6."""
    assert found.keys() == wanted.keys()
    ours, theirs = (np.stack([one[row] for row in sorted(found)]) for one in (found, wanted))
    differ = ~np.isclose(ours, theirs, rtol=1e-6, atol=1e-6, equal_nan=True)
    worst = {name: np.abs(ours - theirs)[:, at].max() for at, name in enumerate(names) if differ[:, at].any()}
    assert not worst


@pytest.mark.parametrize("task", ["recommend", "recommend_unseen"])
def test_features_of_the_engine_are_those_of_evaluation(state: ReleaseState, data: DataSet, task: str) -> None:
    assert data.events is not None
    past, today = PastEvents.of(state, data.events, state.settings.targets), state.user_store.today * DAY
    asked = TASKS[task]  # type: ignore[index]
    ranker = state.feature_ranker(asked.order, asked.gate)
    assert ranker is not None
    compared = 0
    for k in (3, 20, 110):
        users = np.arange(len(data.user_ids))[: ASKED // 5]
        requests = PastRequests(past, users, past.timeline.offsets[users + 1], np.full(len(users), today))
        offline = features_by_item(run(state, Batch(requests=requests, task=asked, k=k), until=score))
        for user, wanted in zip(users.tolist(), offline, strict=True):
            live = LiveRequests([Request(user_id=data.user_ids[user], k=k)])
            (found,) = features_by_item(run(state, Batch(requests=live, task=asked, k=k), until=score))
            assert_same(found, wanted, ranker.names)
            compared += 1
    assert 2 * compared >= ASKED


def test_features_of_a_search_are_those_of_many_together(state: ReleaseState, data: DataSet) -> None:
    assert data.queries is not None
    texts = data.queries.texts[:50]
    asked = TASKS["search"]
    together = run(
        state, Batch(requests=LiveRequests([Request(query=text) for text in texts]), task=asked), until=score
    )
    ranker = state.feature_ranker(asked.order, asked.gate)
    assert ranker is not None
    assert {"words_in_title", "title_bm25", "words_score", "tower_content"} <= set(ranker.names)
    for text, wanted in zip(texts, features_by_item(together), strict=True):
        alone = run(state, Batch(requests=LiveRequests([Request(query=text)]), task=asked), until=score)
        assert_same(features_by_item(alone)[0], wanted, ranker.names)
