"""Peers: what they read, that they learn, and that they are measured on what every stage is measured on."""

from __future__ import annotations

import sys
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from benchmarks.cli.app import bench
from benchmarks.models.onnx_reranker import OnnxReranker
from benchmarks.models.throughput import documented_logits
from benchmarks.peers.implicit import (
    AlsConfig,
    BprConfig,
    NeighboursConfig,
    bm25_weighted,
    count_matrix,
    fit_als,
    fit_bpr,
    fit_neighbours,
)
from benchmarks.peers.peers import Peers, Reranker
from benchmarks.peers.recommenders import Grids, Recommenders
from benchmarks.peers.run import PeersRun, answering_megabytes, engine_calls
from benchmarks.peers.sasrec import SasRec, SasRecConfig, item_vectors, train_sasrec, user_vectors
from benchmarks.peers.sequences import (
    Sequences,
    Windows,
    pad_histories,
    request_histories,
    training_sequences,
    training_windows,
)
from benchmarks.peers.text_pipelines import build_bm25s, build_embeddings
from benchmarks.result_lines import read
from retrieval.errors import MissingDependency
from retrieval.sample_shop.write import write_sample
from retrieval.topk import CSR, exact_topk
from serving.engine import Engine
from serving.settings import DataConfig
from serving.shop import Shop

TINY = SasRecConfig(width=16, longest=4, dropout=0.0, learning_rate=0.02, batch=8, epochs=30, patience=30)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("data") / "sample-shop"
    return write_sample(path, items=60, shoppers=80, events=1_500, queries=20)


@pytest.fixture(scope="module")
def shop(folder: Path) -> Shop:
    return Shop.open(folder, DataConfig(), now=datetime(2026, 6, 1, tzinfo=UTC))


def chain(users: int = 24, n_items: int = 6) -> Sequences:
    """Everyone takes the items one after another, from a place of their own."""
    lists = CSR.from_lists([[(start + step) % n_items for step in range(5)] for start in range(users)])
    return Sequences(lists, np.ones(len(lists.rows), bool))


def test_every_event_but_the_first_is_a_target_once_and_windows_are_cut_from_the_end() -> None:
    lists = CSR.from_lists([[1, 2, 3, 4, 5, 6], [7], [], [8, 9]])
    found = training_windows(Sequences(lists, np.ones(9, bool)), 3)
    assert found.items.tolist() == [[3, 4, 5], [-1, 1, 2], [-1, -1, 8]]
    assert found.targets.tolist() == [[4, 5, 6], [-1, 2, 3], [-1, -1, 9]]


def test_what_is_no_target_is_read_but_never_predicted() -> None:
    lists = CSR.from_lists([[1, 2, 3], [4, 5]])
    found = training_windows(Sequences(lists, np.array([True, False, True, True, False])), 3)
    assert found.items.tolist() == [[-1, 1, 2]]
    assert found.targets.tolist() == [[-1, -1, 3]]


def test_histories_end_at_the_newest_event() -> None:
    assert pad_histories(CSR.from_lists([[1, 2, 3], [], [4]]), 2).tolist() == [[2, 3], [-1, -1], [-1, 4]]
    assert pad_histories(CSR.from_lists([[], []]), 2).tolist() == [[-1, -1], [-1, -1]]


def test_training_reads_nothing_after_the_split_and_no_history_holds_its_own_request(shop: Shop) -> None:
    assert shop.data.events is not None
    assert shop.events is not None
    events, split = shop.data.events, shop.events
    told = training_sequences(events, split)
    kept = split.train & ~events.is_return()
    assert told.items.rows.tolist() == events.item[kept].tolist()
    assert told.items.n_lists == shop.data.n_users
    requests = split.folds["test"]
    read = request_histories(events, requests)
    for i in range(len(requests)):
        before = np.arange(events.offsets[requests.user[i]], requests.end[i])
        before = before[~events.is_return()[before]]
        assert read.rows[read.indptr[i] : read.indptr[i + 1]].tolist() == events.item[before].tolist()


@pytest.mark.parametrize("full", [6, 0], ids=["whole catalogue", "sampled"])
def test_sasrec_learns_what_follows_what(full: int, one_thread: None) -> None:
    config = SasRecConfig(**{**vars(TINY), "full_softmax_items": full, "negatives": 32})
    trained = train_sasrec(training_windows(chain(), 4), 6, config, validate=lambda _: 0.0, device="cpu", seed=1)
    assert trained.epoch == 1
    figures = iter(range(99))
    trained = train_sasrec(
        training_windows(chain(), 4), 6, config, validate=lambda _: next(figures), device="cpu", seed=1
    )
    read = pad_histories(CSR.from_lists([[0, 1, 2], [3, 4], [5]]), 4)
    best = exact_topk(user_vectors(trained.model, read), item_vectors(trained.model), 1).rows[:, 0]
    assert best.tolist() == [3, 5, 0]


def test_sasrec_stops_when_validation_finds_nothing_better_and_keeps_the_best(one_thread: None) -> None:
    figures, seen = iter([0.1, 0.5, 0.2, 0.3, 0.4]), []

    def validate(model: SasRec) -> float:
        seen.append(item_vectors(model).copy())
        return next(figures)

    config = SasRecConfig(**{**vars(TINY), "patience": 2})
    state = torch.get_rng_state()
    trained = train_sasrec(training_windows(chain(), 4), 6, config, validate=validate, device="cpu", seed=1)
    assert (trained.epoch, len(seen)) == (2, 4)
    assert np.array_equal(item_vectors(trained.model), seen[1])
    assert torch.equal(torch.get_rng_state(), state)


def test_sasrec_never_looks_ahead_and_has_no_vector_without_a_history() -> None:
    torch.manual_seed(0)
    model = SasRec(9, TINY).eval()
    one, other = torch.tensor([[1, 2, 3, 4]]), torch.tensor([[1, 2, 8, 7]])
    assert torch.allclose(model(one)[:, :2], model(other)[:, :2], atol=1e-6)
    assert not user_vectors(model, np.full((1, 4), -1)).any()
    assert user_vectors(model, np.empty((0, 4), np.int64)).shape == (0, 16)


def test_an_example_is_the_same_whatever_pads_its_front() -> None:
    torch.manual_seed(0)
    model = SasRec(9, TINY).eval()
    alone = model(torch.tensor([[-1, -1, 3, 4]]))[:, -1]
    beside = model(torch.tensor([[1, 2, 3, 4], [-1, -1, 3, 4]]))[1:, -1]
    assert torch.allclose(alone, beside, atol=1e-6)


def two_tastes() -> CSR:
    """Twenty users take items 0 to 3, twenty items 4 to 7, each all but one."""
    lists = [[row + 4 * half for row in range(4) if row != user % 4] for half in (0, 1) for user in range(20)]
    return CSR.from_lists(lists)


def test_als_finds_what_others_of_the_same_taste_took_and_repeats_itself() -> None:
    pytest.importorskip("implicit")
    config = AlsConfig(2, 0.01, 10.0)  # as many factors as tastes
    fitted, again = (fit_als(two_tastes(), 8, config, seed=3) for _ in range(2))
    histories = CSR.from_lists([[0, 1, 2], [4, 6, 7], []])
    users = fitted.users(histories)
    assert exact_topk(users[:2], fitted.items, 1, exclude=histories.select(np.arange(2))).rows.tolist() == [[3], [5]]
    assert not users[2].any()
    np.testing.assert_array_equal(fitted.items, again.items)


def test_a_peer_is_chosen_by_validation_alone_and_its_build_is_the_chosen_ones(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("implicit")
    grid = (AlsConfig(4, 0.01, 1.0), AlsConfig(8, 0.01, 1.0), AlsConfig(4, 0.1, 1.0))
    made = Recommenders(shop, replace(Grids.quick(), als=grid), "cpu", 1, lambda: np.empty((0, 4), np.float32))
    figures, clock = iter([0.1, 0.3, 0.2]), iter([0.0, 5.0, 10.0, 12.0, 20.0, 27.0])
    monkeypatch.setattr(Recommenders, "_valid", lambda *_: next(figures))
    monkeypatch.setattr("benchmarks.peers.recommenders.time", SimpleNamespace(perf_counter=lambda: next(clock)))
    best = made.all()["als"]()
    assert (best.chosen, best.seconds) == ("factors 8, regularisation 0.01, alpha 1.0, weighting counts", 2.0)


def test_without_implicit_the_line_that_installs_it_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "implicit.cpu.als", None)
    with pytest.raises(MissingDependency, match=r"pip install 'shortlist\[peers\]'"):
        fit_als(two_tastes(), 8, AlsConfig(4, 0.01, 1.0), seed=1)


def test_bpr_and_neighbours_learn_who_takes_what() -> None:
    pytest.importorskip("implicit")
    liked = two_tastes()
    found, again = (fit_bpr(liked, 8, BprConfig(8, 0.01, 0.01), seed=1) for _ in range(2))
    np.testing.assert_array_equal(found.items, again.items)
    assert (found.users[0] @ found.items.T)[:4].mean() > (found.users[0] @ found.items.T)[4:].mean()
    for by in ("cosine", "tfidf", "bm25"):
        scores = fit_neighbours(liked, 8, NeighboursConfig(by, 4)).scores(CSR.from_lists([[0], [7], []]))
        assert scores[0, 1:4].min() > 0 == scores[0, 4:].max()
        assert scores[1, 4:7].min() > 0 == scores[1, :4].max()
        assert not scores[2].any()


def test_histories_are_weighted_as_the_librarys_own_function_weights_them() -> None:
    pytest.importorskip("implicit")
    from implicit.nearest_neighbours import bm25_weight

    table = count_matrix(CSR.from_lists([[0, 0, 1], [1, 2], [3], [0, 3, 3, 3]]), 4)
    totals = np.asarray(table.sum(axis=0)).ravel()
    wanted = bm25_weight(table.T.tocsr(), K1=100, B=0.8).T.toarray()
    np.testing.assert_allclose(bm25_weighted(table, totals).toarray(), wanted, atol=1e-6)
    np.testing.assert_allclose(bm25_weighted(table[1:2], totals).toarray(), wanted[1:2], atol=1e-6)
    config = AlsConfig(2, 0.01, 10.0, "bm25")
    fitted = fit_als(two_tastes(), 8, config, seed=3)
    assert exact_topk(fitted.users(CSR.from_lists([[0, 1]])), fitted.items, 2).rows.max() < 4


def test_search_as_documented_finds_words_and_meanings(tiny_encoder_folder: Path) -> None:
    texts = ["red mug", "blue chair", "green lamp", "steel hammer tool"]
    words = build_bm25s(texts).find(["hammer", "nothing known"], 2)
    assert words.rows[0].tolist() == [3, -1]
    assert (words.rows[1] == -1).all()
    searched, vectors = build_embeddings(texts, str(tiny_encoder_folder), device="cpu")
    wanted = exact_topk(vectors, vectors, 2)
    assert searched.find(texts, 2).rows.tolist() == wanted.rows.tolist()


def test_a_reranker_orders_what_retrieval_found(
    shop: Shop, tiny_encoder_folder: Path, tiny_ranker_folder: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    given = Reranker(str(tiny_ranker_folder), "the bundle's own CrossEncoder")
    found = Peers(shop, Grids.quick(), "cpu", 1, str(tiny_encoder_folder), given).searchers()
    assert "pip install 'shortlist[peers]'" in capsys.readouterr().err
    plain, reranked = (found[name]() for name in list(found)[1:])
    assert list(found)[2:] == ["sentence_transformers_faiss_cross_encoder"]
    assert reranked.chosen == "as documented, the bundle's own CrossEncoder"
    assert reranked.megabytes > plain.megabytes
    before, after = (built.find(["red mug"], 60).rows[0] for built in (plain, reranked))
    assert before.tolist() != after.tolist()
    assert sorted(before) == sorted(after)


def test_onnx_in_8_bits_gives_nearly_the_logits_of_its_model(tiny_ranker_folder: Path) -> None:
    for module in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(module)
    pairs = [("red mug", "blue mug " * times) for times in (1, 40, 5)]
    made, wanted = OnnxReranker.of(tiny_ranker_folder), documented_logits(tiny_ranker_folder, "cpu")
    np.testing.assert_allclose(made(pairs), wanted(pairs), atol=0.1)
    assert made([]).shape == (0,)


def test_a_bundle_is_timed_on_the_peers_requests_and_lends_its_reranker(
    bundle: Path, shop_folder: Path, tiny_encoder_folder: Path
) -> None:
    shop = Shop.open(shop_folder, DataConfig(), now=datetime(2026, 6, 1, tzinfo=UTC))
    peers = Peers(shop, Grids.quick(), "cpu", 1, "none", timed=4)
    calls = engine_calls(Engine.open(bundle, device="cpu", auto_reload=False), peers)
    assert {kind: len(some) for kind, some in calls.items()} == {
        "recommend": 4, "recommend, not reranked": 4, "search": 4
    }  # fmt: skip
    assert all(len(some[0]().items) > 0 for some in calls.values())
    assert answering_megabytes(bundle, reranked=True) > answering_megabytes(bundle, reranked=False) > 0
    run = PeersRun(shop_folder, bundle, Grids.quick(), "cpu", 1)
    assert run.reranker() is not None
    assert replace(run, cross_encoder="cross-encoder/tiny").reranker() == Reranker(
        "cross-encoder/tiny", "CrossEncoder cross-encoder/tiny"
    )
    assert replace(run, bundle=None).reranker() is None


def test_peers_stand_beside_the_baselines_on_the_same_requests(
    folder: Path, tmp_path: Path, tiny_encoder_folder: Path, one_thread: None
) -> None:
    pytest.importorskip("implicit")
    out = tmp_path / "results.jsonl"
    asked = [
        "peers",
        "--data",
        str(folder),
        "--quick",
        "--model",
        str(tiny_encoder_folder),
        "--device",
        "cpu",
        "--out",
        str(out),
    ]
    done = CliRunner().invoke(bench, asked)
    assert done.exit_code == 0, done.output
    lines = [one.line for one in read(out)]
    costs = {line.labels["peer"]: line for line in lines if line.measured == "peer"}
    recommenders = {"als", "bpr", "implicit_item_knn", "sasrec_ids", "sentence_transformers"}
    assert set(costs) == recommenders | {"bm25s", "sentence_transformers_faiss"}
    for line in costs.values():
        assert {"build s", "MB", "median ms", "per second", "per second at once"} <= set(line.costs)
    kept = [line for line in lines if line.measured == "quality" and line.labels["task"] == "seen_kept"]
    stages = {line.labels["stage"]: line.summary["n"] for line in kept}
    assert recommenders | {"popularity", "own_frequency", "item_knn"} <= set(stages)
    assert len(set(stages.values())) == 1


def test_bad_input_is_one_line(folder: Path, tmp_path: Path) -> None:
    done = CliRunner().invoke(bench, ["peers", "--data", str(tmp_path / "nowhere")])
    assert done.exit_code == 2
    assert "no such folder" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_examples_count_windows() -> None:
    assert len(Windows(np.zeros((3, 2), np.int64), np.zeros((3, 2), np.int64))) == 3
