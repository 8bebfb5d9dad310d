"""The candidates of requests: the same however many are read at once, named items first with what sources gave."""

from __future__ import annotations

import numpy as np
import pytest

from engine_changes import with_fusion
from retrieval.data.dataset import DataSet
from retrieval.sources.protocols import RequestBatch
from serving.answering import retriever
from serving.answering.batch import Batch
from serving.answering.pipeline import run
from serving.answering.stages.read_user import LiveRequests
from serving.answering.stages.retrieve import retrieve
from serving.answering.tasks import TASKS
from serving.engine import Engine
from serving.evaluation.batch_requests import QueriesAlone
from serving.request import Request


def test_how_many_requests_are_read_at_once_changes_nothing(
    engine: Engine, data: DataSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = with_fusion(engine.state)
    users = LiveRequests([Request(user_id=user) for user in data.user_ids[:10]])
    batches = [
        Batch(requests=users, task=TASKS["recommend_unseen"]),
        Batch(requests=QueriesAlone(["red mug", "lamp", "", "steel"]), task=TASKS["search"]),
    ]
    whole = [run(state, batch, until=retrieve).candidates for batch in batches]
    monkeypatch.setattr(retriever, "CELLS", 3 * state.version.size)
    for batch, wanted in zip(batches, whole, strict=True):
        found = run(state, batch, until=retrieve).candidates
        np.testing.assert_array_equal(found.hits.rows, wanted.hits.rows)
        np.testing.assert_allclose(found.hits.scores, wanted.hits.scores, rtol=1e-5)
        for name, mask in wanted.proposed.items():
            np.testing.assert_array_equal(found.proposed[name], mask)


def test_what_sources_gave_stays_with_its_item_where_one_is_named(engine: Engine) -> None:
    retriever, tower = with_fusion(engine.state).retriever, engine.state.user_tower
    texts = ["item-00030", "red mug"]
    behaviour, vectors = RequestBatch.of_texts(texts), tower.queries(texts)
    given = retriever.shortlists(vectors, behaviour, 10, "search")
    found = retriever.pin_exact_matches(given, behaviour)
    assert found.exact.any(axis=1).tolist() == [True, False]
    weights = retriever.fusion("search").weights
    for hits in (given.hits, found.hits):
        total = sum(weights[name] * hits.parts[name] for name in weights)
        fused = ~found.exact if hits is found.hits else np.ones_like(found.exact)
        np.testing.assert_allclose(total[fused], hits.scores[fused], atol=1e-5)
