"""Adopted models: their own scores, nothing trained, and vectors that fit."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from engine_changes import by_towers_alone, with_markers
from indexing.bundle.bundle import Bundle
from ranking.models import int8_calibration as ranker_calibration
from retrieval.data.dataset import DataSet
from retrieval.data.split import split_events
from retrieval.encoders import int8_calibration, runtime
from retrieval.encoders.int8_file import holds_int8
from retrieval.errors import BadBundle, BadConfig, BadData, StaleArtefact
from retrieval.text.rendering import field_markers_fingerprint, item_texts
from retrieval.topk import CSR
from retrieval.towers.serving import TEXT
from serving.answering.stages.describe import POPULAR
from serving.answering.stages.rank import pair_logits, ranker_texts, user_texts
from serving.answering.user_context import UserContexts
from serving.engine import Engine
from serving.evaluation.labelled import LabelledRequests
from serving.fitting.train_ranker import serves_int8
from serving.jobs import adopt
from serving.jobs.adopt import Adoption, own_pairs, read_vectors
from serving.jobs.build_index import IndexBuild
from serving.jobs.run import Pipeline
from serving.jobs.train_one import index_ids, recorded_settings
from serving.settings import RunSettings, read_settings
from serving.shop import Shop

Make = Callable[[Path, Path, RunSettings], Pipeline]
Build = Callable[..., IndexBuild]
DIM = 32


@pytest.fixture(autouse=True, scope="module")
def warnings_of_tracing() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@pytest.fixture(scope="module")
def adopted(
    sample_folder: Path,
    tiny_encoder_folder: Path,
    tiny_ranker_folder: Path,
    tmp_path_factory: pytest.TempPathFactory,
    make_pipeline: Make,
    one_thread: None,
) -> Path:
    out = tmp_path_factory.mktemp("adopted") / "bundle"
    pipeline = make_pipeline(sample_folder, out, RunSettings())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(adopt, "serves_int8", lambda _: True)  # as on a machine with int8 instructions
        Adoption(str(tiny_encoder_folder), str(tiny_ranker_folder)).publish(pipeline)
    return out


@pytest.fixture(scope="module")
def engine(adopted: Path) -> Engine:
    return Engine.open(adopted, device="cpu")


@pytest.fixture(scope="module")
def cosines(data: DataSet, tiny_encoder_folder: Path) -> Callable[[str], np.ndarray]:
    """What the library says of a query and every item."""
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(str(tiny_encoder_folder), device="cpu")
    items = model.encode_document(item_texts(data.items), show_progress_bar=False)
    return lambda query: model.similarity(model.encode_query([query]), items).numpy()[0]


def vectors_file(path: Path, ids: list[str], vectors: object, kind: pa.DataType | None = None) -> Path:
    table = {"item_id": ids, "vector": pa.array(vectors, kind or pa.list_(pa.float32()))}
    pq.write_table(pa.table(table), path)
    return path


def test_a_search_finds_by_words_what_the_encoder_does_not_know(engine: Engine, data: DataSet) -> None:
    assert set(engine.state.retriever.fusions["search"].weights) == {"towers", "words"}
    answer = engine.search("red mug", k=50, rerank=False)
    assert {"towers", "words"} <= {source for hit in answer.items for source in hit.sources}


@pytest.mark.parametrize(
    ("changes", "fast", "calibrated"),
    [
        ([], False, False),
        ([], True, True),
        (["ranking.precision=int8"], False, True),
        (["ranking.precision=fp32"], True, False),
    ],
)
def test_a_ranker_is_calibrated_where_int8_would_serve_it(
    changes: list[str], fast: bool, calibrated: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runtime, "has_fast_bf16", lambda: fast)
    assert serves_int8(read_settings(changes=changes).ranking) is calibrated


def test_nothing_is_calibrated_that_nothing_uses(
    sample_folder: Path,
    tiny_encoder_folder: Path,
    tiny_ranker_folder: Path,
    tmp_path: Path,
    make_pipeline: Make,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a calibration")

    monkeypatch.setattr(int8_calibration, "calibrate", refuse)
    monkeypatch.setattr(ranker_calibration, "calibrate", refuse)
    pipeline = make_pipeline(sample_folder, tmp_path / "bundle", RunSettings())
    Adoption(str(tiny_encoder_folder), str(tiny_ranker_folder)).publish(pipeline)
    assert Engine.open(tmp_path / "bundle", device="cpu").search("red mug", k=5).reranked


@pytest.mark.parametrize("query", ["red mug", "large steel drill for the garden", "x"])
def test_a_search_scores_as_the_encoder_does(
    engine: Engine, data: DataSet, cosines: Callable[[str], np.ndarray], query: str
) -> None:
    answer = Engine(by_towers_alone(engine.state)).search(query, k=50, rerank=False)
    wanted = dict(zip(data.item_ids, cosines(query).tolist(), strict=True))
    np.testing.assert_allclose(
        [hit.score for hit in answer.items], [wanted[hit.item_id] for hit in answer.items], atol=1e-4
    )
    assert answer.items[-1].score >= np.sort(cosines(query))[::-1][49] - 1e-4


def test_a_reranked_search_scores_as_the_cross_encoder_does(
    engine: Engine, data: DataSet, tiny_ranker_folder: Path
) -> None:
    from sentence_transformers import CrossEncoder

    text_of = dict(zip(data.item_ids, item_texts(data.items), strict=True))
    answer = engine.search("red mug", k=20)
    pairs = [("red mug", text_of[hit.item_id]) for hit in answer.items]
    wanted = CrossEncoder(str(tiny_ranker_folder), device="cpu").predict(pairs, show_progress_bar=False)
    assert answer.reranked
    np.testing.assert_allclose([hit.score for hit in answer.items], wanted, atol=1e-4)
    assert np.all(np.diff(wanted) <= 1e-4)


def test_a_shopper_is_answered_near_the_mean_of_what_was_done(engine: Engine, data: DataSet) -> None:
    history = list(data.item_ids[:2])
    answer = engine.recommend(history=history, filter_seen=False, rerank=False, k=3)
    vectors = engine.state.version.vectors
    mean = vectors[:2].sum(axis=0) / np.linalg.norm(vectors[:2].sum(axis=0))
    np.testing.assert_allclose([hit.score for hit in answer.items], np.sort(vectors @ mean)[::-1][:3], atol=1e-5)
    assert engine.recommend(user_id="nobody").fallbacks == (POPULAR,)


def test_an_adopted_ranker_is_on_and_said_to_be_adopted(adopted: Path) -> None:
    release = Bundle.open(adopted).current()
    assert release.gates == {task: {"verdict": "adopted", "on": True} for task in ("recommend", "search")}
    assert not (adopted / "work").exists()


def test_what_is_recorded_as_auto_is_served_in_int8_where_the_cpu_multiplies_it(
    adopted: Path, without_fast_bf16: Callable[[], bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runtime, "has_fast_bf16", without_fast_bf16)
    engine = Engine.open(adopted, device="cpu")
    assert engine.state.steps[0].scorer.placement.precision == ("int8" if without_fast_bf16() else "fp32")
    assert engine.search("red mug", k=5).reranked


def test_an_adopted_ranker_is_served_in_int8_by_what_the_shops_own_texts_show(
    sample_folder: Path, tiny_encoder_folder: Path, tiny_ranker_folder: Path, tmp_path: Path, make_pipeline: Make
) -> None:
    settings = read_settings(changes=["ranking.precision=int8", "ranking.depth=20", "retrieval.precision=int8"])
    pipeline = make_pipeline(sample_folder, tmp_path / "bundle", settings)
    Adoption(str(tiny_encoder_folder), str(tiny_ranker_folder)).publish(pipeline)
    release = Bundle.open(tmp_path / "bundle")
    assert holds_int8(release.path_of("towers", release.current().towers) / TEXT)
    int8, exact = (Engine.open(tmp_path / "bundle", device="cpu", precision=kind) for kind in ("auto", "fp32"))
    assert [one.state.steps[0].scorer.placement.precision for one in (int8, exact)] == ["int8", "fp32"]
    pairs = CSR.from_lists([np.arange(40)])
    near, wanted = (pair_logits(one.state, ["red mug"], pairs) for one in (int8, exact))
    assert not np.array_equal(near, wanted)
    assert np.corrcoef(near, wanted)[0, 1] > 0.99
    assert int8.state.depth == 20


@pytest.mark.parametrize("titles", [1, 3])
@pytest.mark.parametrize("marked", [False, True])
def test_pairs_of_a_shops_own_texts_show_matches_and_others(data: DataSet, titles: int, marked: bool) -> None:
    shop = Shop(data, split_events(data), None)
    settings = read_settings(
        changes=[f"ranking.titles={titles}", f"ranking.field_markers={str(marked).lower()}"]
    ).ranking
    pairs, texts = own_pairs(shop, 40, settings), set(item_texts(data.items))
    names = set(data.items["title"].to_pylist())
    assert len(pairs) == 40
    assert {item for _, item in pairs} <= texts
    mark = "purchase: " if marked else ""  # given items are read as taken
    firsts = [(user.split("; ")[0].removeprefix(mark), item) for user, item in pairs if user.startswith(mark)]
    told = [(first, item) for first, item in firsts if first in names]
    assert {item.startswith(first) for first, item in told} == {True, False}
    assert data.queries is not None
    asked = [f"query: {text}" if marked else text for text in data.queries.texts]
    assert sum(user in asked for user, _ in pairs) == 20


def test_a_ranker_that_reads_marks_of_another_rendering_is_stale(adopted: Path) -> None:
    bundle = Bundle.open(adopted)
    release = bundle.current()
    assert release.settings["field_markers"] is None
    for recorded, marked in ((None, False), (field_markers_fingerprint(), True)):
        told = replace(release, settings=release.settings | {"field_markers": recorded})
        state = Engine.of_release(bundle, told, device="cpu").state
        (text,) = user_texts(state, UserContexts.nobody(1), ["red mug"])
        assert text == ("query: red mug" if marked else "red mug")
    stale = replace(release, settings=release.settings | {"field_markers": "0123"})
    with pytest.raises(StaleArtefact, match="run: shortlist train ranker"):
        Engine.of_release(bundle, stale, device="cpu")
    assert not Engine.of_release(bundle, replace(stale, ranker=None), device="cpu").search("red mug").reranked


def test_towers_that_know_no_kinds_leave_the_ranker_those_of_the_data(engine: Engine, data: DataSet) -> None:
    assert data.events is not None
    state = with_markers(engine.state, marked=True)
    more = replace(data.events, kinds=("added", *data.events.kinds), kind=data.events.kind + 1)  # of a later export
    split = split_events(data)
    requests = split.folds["test"].select(np.arange(5))
    for events in (data.events, more):
        labelled = LabelledRequests(state, Shop(replace(data, events=events), split, None))
        newest = [events.kinds[events.kind[end - 1]] for end in requests.end.tolist()]
        read = ranker_texts(state, labelled.of_requests(requests).batch)
        assert [text.split(": ")[0] for text in read] == newest


def test_a_way_that_needs_a_shallow_model_is_refused_before_anything_is_made(
    sample_folder: Path, tiny_encoder_folder: Path, tiny_ranker_folder: Path, tmp_path: Path, make_pipeline: Make
) -> None:
    pipeline = make_pipeline(sample_folder, tmp_path / "bundle", read_settings(changes=["ranking.strategy=cascade"]))
    with pytest.raises(BadConfig, match=r"ranking\.strategy=cascade needs a second model"):
        Adoption(str(tiny_encoder_folder), str(tiny_ranker_folder)).publish(pipeline)
    assert not (tmp_path / "bundle").exists()


def test_adopted_models_can_be_evaluated_against_their_own_encoder(
    adopted: Path, sample_folder: Path, make_pipeline: Make
) -> None:
    bundle = Bundle.open(adopted)
    settings = read_settings(base=recorded_settings(bundle), changes=["evaluation.rerank_sample=5"])
    pipeline = make_pipeline(sample_folder, adopted, settings)
    evaluation, report = pipeline.evaluate_live(pipeline.open_shop(like=index_ids(bundle, bundle.current())), bundle)
    stages = evaluation["tasks"]["search"]["stages"]  # type: ignore[call-overload,index]
    assert stages["untuned_encoder"]["recall@10"] == stages["retrieval"]["recall@10"]  # type: ignore[index,call-overload]
    assert "Adopted" in report.read_text("utf-8")


def test_given_vectors_stand_for_the_items(
    sample_folder: Path,
    data: DataSet,
    tiny_encoder_folder: Path,
    tmp_path: Path,
    make_pipeline: Make,
    build_index: Build,
) -> None:
    for path in sample_folder.glob("items.parquet"):
        (tmp_path / "data").mkdir()
        (tmp_path / "data" / path.name).write_bytes(path.read_bytes())
    given = np.random.default_rng(0).normal(size=(data.n_items, DIM)).astype(np.float32)
    file = vectors_file(tmp_path / "v.parquet", list(reversed(data.item_ids)), list(given[::-1]))
    pipeline = make_pipeline(tmp_path / "data", tmp_path / "bundle", RunSettings())
    Adoption(str(tiny_encoder_folder), vectors=file).publish(pipeline)
    engine = Engine.open(tmp_path / "bundle", device="cpu")
    engine = Engine(by_towers_alone(engine.state))
    query = engine.state.user_tower.queries(["red mug"])[0]
    wanted = np.sort(given / np.linalg.norm(given, axis=1, keepdims=True) @ query)[::-1]
    np.testing.assert_allclose([hit.score for hit in engine.search("red mug", k=5).items], wanted[:5], atol=1e-4)
    with pytest.raises(BadBundle, match="adopt with --vectors"):
        build_index(pipeline)


@pytest.mark.parametrize("kind", [pa.list_(pa.float64()), pa.large_list(pa.float32()), pa.list_(pa.float32(), 2)])
def test_vectors_of_every_kind_of_list_are_read(tmp_path: Path, kind: pa.DataType) -> None:
    file = vectors_file(tmp_path / "v.parquet", ["b", "a"], [[0.0, 2.0], [3.0, 4.0]], kind)
    np.testing.assert_allclose(read_vectors(file, ("a", "b"), 2), [[0.6, 0.8], [0.0, 1.0]], atol=1e-6)


@pytest.mark.parametrize(
    ("ids", "vectors", "told"),
    [
        (["a"], [[1.0, 0.0]], "1 items without a vector .first: b."),
        (["a", "b", "c"], [[1.0, 0.0]] * 3, "1 items that items.parquet lacks .first: c."),
        (["a", "b", "a"], [[1.0, 0.0]] * 3, "1 repeated items .first: a."),
        (["a", "b"], [[1.0, 0.0], [1.0]], "other than the encoder's 2 numbers .first: b with 1."),
        (["a", "b"], [[1.0, 0.0], None], "other than the encoder's 2 numbers .first: b with 0."),
        (["a", "b"], [[1.0, 0.0], [1.0, float("nan")]], "null, nan or infinity .first: b."),
        (["a", "b"], [[1.0, 0.0], [1.0, None]], "null, nan or infinity .first: b."),
        (["a", "b"], [[0.0, 0.0], [1.0, 0.0]], "length 0 .first: a."),
        (["a", None], [[0.0, 1.0], [1.0, 0.0]], "1 of 2 item ids are null"),
    ],
)
def test_vectors_that_do_not_fit_are_refused_by_item(
    tmp_path: Path, ids: list[str], vectors: list[object], told: str
) -> None:
    file = vectors_file(tmp_path / "v.parquet", ids, vectors)
    with pytest.raises(BadData, match=rf"v\.parquet: .*{told}"):
        read_vectors(file, ("a", "b"), 2)


def test_a_vectors_file_of_another_shape_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "v.parquet"
    with pytest.raises(BadData, match="cannot be read as parquet"):
        read_vectors(path, ("a",), 2)
    path.write_text("item_id,vector")
    with pytest.raises(BadData, match="cannot be read as parquet"):
        read_vectors(path, ("a",), 2)
    pq.write_table(pa.table({"item_id": ["a"], "embedding": [[1.0]]}), path)
    with pytest.raises(BadData, match="has no column vector; it holds item_id, embedding"):
        read_vectors(path, ("a",), 2)
    pq.write_table(pa.table({"item_id": ["a"], "vector": ["1 2"]}), path)
    with pytest.raises(BadData, match="column vector is string"):
        read_vectors(path, ("a",), 2)


@pytest.mark.parametrize("part", ["encoder", "ranker"])
def test_what_is_no_model_is_refused_and_leaves_nothing(
    sample_folder: Path, tiny_encoder_folder: Path, tmp_path: Path, make_pipeline: Make, part: str
) -> None:
    (tmp_path / "empty").mkdir()
    models = {"encoder": str(tiny_encoder_folder)} | {part: str(tmp_path / "empty")}
    with pytest.raises(BadBundle, match="empty does not open as a sentence-transformers"):
        Adoption(**models).publish(make_pipeline(sample_folder, tmp_path / "bundle", RunSettings()))
    assert not (tmp_path / "bundle").exists()
