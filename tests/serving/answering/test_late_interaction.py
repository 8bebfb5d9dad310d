"""A release whose shortlists late interaction orders, alone or before the full model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from indexing.bundle.bundle import Bundle
from indexing.version.index_version import IndexVersion
from ranking.models.late_interaction import LateScorer
from retrieval.topk import Hits
from serving.answering.release_settings import SHORTLIST, ReleaseSettings
from serving.answering.stages.rank import rerank, step_logits
from serving.answering.tasks import TASKS
from serving.engine import Engine
from serving.evaluation.batch_requests import QueriesAlone, retrieved
from serving.jobs.run import Pipeline
from serving.jobs.train_one import train_ranker
from serving.jobs.update_index import Update
from serving.settings import RunSettings, read_settings

Make = Callable[[Path, Path, RunSettings], Pipeline]
CHANGES = ["ranking.strategy=late_then_full", "ranking.late.examples=64", "ranking.late.valid_pairs=64"]
ORDERS = {"recommend", "recommend_unseen", "complete_cart", "search"}
pytestmark = pytest.mark.usefixtures("one_thread")


def test_it_is_trained_stored_served_and_kept_right_by_updates(
    own_bundle: Path, sample_folder: Path, tmp_path: Path, make_pipeline: Make, quick_settings: RunSettings
) -> None:
    settings = read_settings(base=quick_settings.model_dump(), changes=CHANGES)
    release = train_ranker(make_pipeline(sample_folder, own_bundle, settings)).release
    late, full = ReleaseSettings.of(release).rerank
    assert (late.model, late.depth, set(late.blends)) == ("late", SHORTLIST, ORDERS)
    assert (full.model, full.depth, set(full.blends)) == ("full", settings.ranking.depth, ORDERS | {"grade"})
    engine = Engine.open(own_bundle, device="cpu", auto_reload=False)
    first, second = engine.state.steps
    assert isinstance(first.scorer, LateScorer)
    assert first.scorer.stored is not None
    assert len(first.scorer.stored) == engine.state.version.size
    hits = retrieved(engine.state, QueriesAlone(["red mug"]), TASKS["search"]).candidates.hits
    quick = rerank(replace(engine.state, steps=(first,)), ["red mug"], hits, "search").hits.rows[0]
    both = rerank(engine.state, ["red mug"], hits, "search").hits.rows[0]
    assert set(quick[: second.depth]) == set(both[: second.depth])
    assert both[second.depth :].tolist() == quick[second.depth :].tolist()

    items = pq.read_table(sample_folder / "items.parquet")
    titles = ["blue steel drill", *items["title"].to_pylist()[1:]]
    changed = items.set_column(items.schema.get_field_index("title"), "title", [titles]).slice(0, 1)
    pq.write_table(changed, tmp_path / "upserts.parquet")
    Update(upsert=tmp_path / "upserts.parquet", delete=None, max_bad=0.1).apply(
        Bundle.open(own_bundle), device="cpu", say=lambda _: None
    )
    updated = Engine.open(own_bundle, device="cpu", auto_reload=False).state
    own = np.flatnonzero(np.array(updated.version.ids.to_pylist()) == items["item_id"][0].as_py())
    alone = Hits(own[None], np.zeros((1, 1), np.float32))
    (now,) = step_logits(updated, updated.steps[0], ["red mug"], alone)[0]
    (then,) = step_logits(engine.state, first, ["red mug"], alone)[0]
    fresh = first.scorer
    (wanted,) = fresh.score_tokenised(
        fresh.tokenizer.pairs(["red mug"], updated.item_texts(own), np.zeros(1, int), np.zeros(1, int))
    )
    assert now == pytest.approx(wanted, abs=1e-5)
    assert now != pytest.approx(then, abs=1e-5)


def test_a_build_reads_new_texts_alone_unless_what_it_knows_was_damaged(
    own_bundle: Path, sample_folder: Path, tmp_path: Path, make_pipeline: Make, quick_settings: RunSettings,
    build_index: Callable[..., object], monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    settings = read_settings(base=quick_settings.model_dump(), changes=CHANGES)
    train_ranker(make_pipeline(sample_folder, own_bundle, settings))
    items = pq.read_table(sample_folder / "items.parquet")
    titles = ["blue steel drill", *items["title"].to_pylist()[1:]]
    (data := tmp_path / "data").mkdir()
    changed = items.set_column(items.schema.get_field_index("title"), "title", [titles])
    pq.write_table(changed, data / "items.parquet")
    read: list[int] = []
    vectors = LateScorer.item_vectors
    monkeypatch.setattr(
        LateScorer, "item_vectors", lambda self, texts: read.append(len(texts.indptr) - 1) or vectors(self, texts)
    )
    build_index(make_pipeline(data, own_bundle, settings))
    assert sum(read) == 1
    state = Engine.open(own_bundle, device="cpu", auto_reload=False).state
    late = state.steps[0].scorer
    assert isinstance(late, LateScorer)
    assert late.stored is not None
    every = np.arange(state.version.size)
    wanted = vectors(late, late.tokenizer.encode(state.item_texts(every), "item"))
    for kept, made in zip(late.stored.at(every), wanted, strict=True):
        np.testing.assert_array_equal(kept, made.reshape(-1))

    (column,) = (own_bundle / "index").glob(f"{state.version.name}/**/late_vectors.arrow")
    data_bytes = bytearray(column.read_bytes())
    data_bytes[len(data_bytes) // 2] ^= 1
    column.chmod(0o644)
    column.write_bytes(data_bytes)
    assert not IndexVersion.open(state.version.folder, device="cpu").has_whole_column("late_vectors")
