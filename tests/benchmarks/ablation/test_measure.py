"""Towers measured alone: the figures are those of the engine's own search by towers."""

from __future__ import annotations

import warnings
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path

import numpy as np
import pytest

from benchmarks.ablation.measure import MeasuredTowers, figures_of
from retrieval.sample_shop.write import write_sample
from retrieval.topk import CSR, Hits
from retrieval.towers.serving import Towers
from serving.engine import Engine
from serving.evaluation.batch_requests import by_towers
from serving.evaluation.figures import Figures
from serving.evaluation.labelled import LabelledRequests, LabelledShortlists
from serving.evaluation.slices import noisy_queries
from serving.jobs.run import Pipeline
from serving.settings import read_settings


def test_figures_count_requests_that_have_a_target() -> None:
    hits = Hits(np.array([[1, 2], [1, 2]]), np.array([[2, 1], [2, 1]], np.float32))
    found = figures_of(hits, CSR.from_lists([[1], []]))
    assert (found["n"], found["recall@10"], found["ndcg@10"]) == (1, 1.0, 1.0)
    assert figures_of(hits.head(0), CSR.from_lists([[], []]))["recall@10"] is None


def test_towers_alone_find_what_the_engine_finds_by_them(
    tmp_path: Path, tiny_encoder_folder: Path, one_thread: None
) -> None:
    folder = write_sample(tmp_path / "sample-shop", items=60, shoppers=120, events=1_500, queries=40)
    quick = (f"text.model={tiny_encoder_folder}", "text.examples=0", "history.epochs=1", "history.longest=6")
    clock = (datetime(2026, 6, 1, tzinfo=UTC) + timedelta(seconds=look) for look in count())
    settings = read_settings(changes=[f"retrieval.{change}" for change in quick])
    pipeline = Pipeline(folder, tmp_path / "bundle", settings, "quick", "cpu", lambda _: None, clock.__next__)
    with warnings.catch_warnings(), pipeline.writing() as (shop, bundle):
        warnings.simplefilter("ignore")  # of tracing
        draft = pipeline.train_retriever(shop, bundle)
        state = Engine.of_release(bundle, draft, device="cpu").state
        towers = Towers.open(bundle.path_of("towers", draft.towers), device="cpu")
        measured = MeasuredTowers(towers, shop, np.array(state.version.text_vectors))
    assert shop.data.events is not None
    assert shop.events is not None
    assert shop.judgements is not None
    requests = shop.events.folds["test"]
    requests = requests.select(requests.end > shop.data.events.offsets[requests.user])
    labelled, queries = LabelledRequests(state, shop), shop.judgements.folds["test"]

    def by_engine(asked: LabelledShortlists) -> Figures:
        return figures_of(by_towers(asked.batch, state), asked.targets)

    theirs = by_engine(labelled.of_requests(requests, unseen=True))
    assert measured.recommend(requests) == pytest.approx(theirs)
    found, theirs = measured.search(queries), by_engine(labelled.searches("test"))
    assert {name: found[name] for name in theirs} == pytest.approx(theirs)
    misspelt = LabelledRequests(replace(state, spelling=None), shop)  # the towers alone read what is typed
    noisy = by_engine(misspelt.searches("test", texts=noisy_queries(shop, queries)))
    assert found["noisy_recall@10"] == pytest.approx(noisy["recall@10"])
