"""Reranking is timed on a request that the shop has, and on the candidates that its engine finds for it, in order."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from benchmarks.cli.app import bench
from benchmarks.models import rerank_request
from benchmarks.models import run as model_runs
from benchmarks.models.rerank_request import RerankRequest, candidates, sample_request
from benchmarks.models.run import ModelRuns
from benchmarks.models.throughput import OpenModels, Pairs, RerankRunner
from benchmarks.result_lines import Line
from indexing.bundle.bundle import Bundle
from serving.answering.batch import Batch
from serving.answering.pipeline import run
from serving.answering.stages.rank import user_texts
from serving.answering.stages.read_user import LiveRequests
from serving.answering.stages.retrieve import retrieve
from serving.answering.tasks import TASKS
from serving.engine import Engine
from serving.jobs.canaries import Canary, write_canaries
from serving.request import Request

MISSPELT, MEANT = "titanuim camp stoove", "titanium camp stove"


@pytest.fixture(scope="module")
def ranker(bundle: Path) -> Path:
    return ModelRuns(bundle).ranker(None)


@pytest.fixture(scope="module")
def engine(bundle: Path) -> Engine:
    return Engine.open(bundle, device="cpu", auto_reload=False)


@pytest.fixture
def searched_only(bundle: Path, tmp_path: Path) -> Callable[[Sequence[str]], Path]:
    """The same shop without shoppers, whose canaries are these queries."""

    def made(queries: Sequence[str]) -> Path:
        store = Bundle.open(Path(shutil.copytree(bundle, tmp_path / "bundle")))
        with store.stage("canaries") as folder:
            write_canaries(folder, [Canary(wanted=(), query=query) for query in queries])
            store.add("canaries", "asked", folder)
        store.record(replace(store.current(), id="searched", shoppers=None, second_stage=None, canaries="asked"))
        store.activate("searched")
        return store.path

    return made


def texts(engine: Engine, ids: Sequence[str]) -> list[str]:
    return engine.state.item_texts(engine.state.version.rows_of(list(ids)))


def test_a_shop_with_shoppers_reranks_what_its_engine_found_for_one_of_them(
    bundle: Path, ranker: Path, engine: Engine
) -> None:
    found, less = (sample_request(Bundle.open(bundle), ranker, size=size, device="cpu") for size in (1_000, 12))
    assert less.items == found.items[:12]
    state, users = engine.state, engine.state.user_store.user_ids.to_pylist()
    asked = [user for user in users if user_texts(state, state.user_contexts.of_user(user), [""]) == [found.user]]
    shown = [engine.recommend(user_id=user, k=state.version.size, rerank=False).items for user in asked]
    assert found.task == "recommend"
    assert list(found.items) in [texts(engine, [hit.item_id for hit in hits]) for hits in shown]


def test_after_a_short_shortlist_come_the_towers_next_items(engine: Engine) -> None:
    state = replace(engine.state, shortlist=10)  # the shop is so small that it would hold all of it
    users = state.user_store.user_ids.to_pylist()
    request = Request(user_id=next(user for user in users if state.user_contexts.has_taken(user)))
    drawn = run(state, Batch(requests=LiveRequests([request]), task=TASKS["recommend_unseen"], k=10), until=retrieve)
    shortlist, rows = drawn.candidates.hits.rows[0].tolist(), candidates(state, drawn, 1_000)
    assert rows[:10].tolist() == shortlist
    assert candidates(state, drawn, 4).tolist() == shortlist[:4]
    scores = state.version.vectors_at(rows[10:]) @ drawn.vectors[0]
    assert (np.diff(scores) <= 1e-6).all()
    assert drawn.exclude is not None
    taken = np.unique(drawn.exclude.rows)
    assert len(taken)
    assert sorted([*rows.tolist(), *taken.tolist()]) == list(range(state.version.size))


def test_a_request_in_the_middle_by_length_is_taken_and_the_seed_draws_it(
    bundle: Path, ranker: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rerank_request, "SAMPLED", 9)
    sampled = [sample_request(Bundle.open(bundle), ranker, device="cpu", seed=seed) for seed in (1, 1, 2)]
    assert sampled[0] == sampled[1] != sampled[2]
    for one in sampled:
        about = one.facts(ranker, [len(one.items)])
        assert len(one.sampled) == 9
        assert str(about[f"tokens_of_{len(one.items)}_pairs"]).startswith(f"mean {np.median(one.sampled):.0f},")
        assert (
            about["tokens_of_requests"]
            == f"median {np.median(one.sampled):.0f}, mean {np.mean(one.sampled):.0f} of 9 sampled"
        )


def test_a_shop_that_is_searched_only_reranks_a_query_of_its_canaries_as_it_is_read(
    searched_only: Callable[[Sequence[str]], Path], ranker: Path
) -> None:
    path = searched_only([MISSPELT])
    found = sample_request(Bundle.open(path), ranker, device="cpu")
    engine = Engine.open(path, device="cpu", auto_reload=False)
    answer = engine.search(MISSPELT, k=100, rerank=False)
    assert (found.task, found.user, answer.corrected_query) == ("search", MEANT, MEANT)
    assert list(found.items) == texts(engine, [hit.item_id for hit in answer.items])


def test_what_cannot_be_reranked_is_told_in_one_line(
    bundle: Path, searched_only: Callable[[Sequence[str]], Path], tmp_path: Path
) -> None:
    nobody = ("rerank", str(searched_only([])), "knows no users and no queries to rerank for")
    no_model = ("rerank", str(bundle), "--model", str(tmp_path), f"{tmp_path}")
    no_request = ("rerank", str(bundle), "--request", str(tmp_path / "nothing.json"), "cannot be read as a request")
    for *arguments, said in (nobody, no_model, no_request):
        done = CliRunner().invoke(bench, [*arguments, "--device", "cpu", "--threads", "1"])
        assert (done.exit_code, done.stderr.count("\n")) == (2, 1)
        assert done.stderr.startswith("error: ")
        assert said in done.stderr


def test_every_way_reads_the_requests_own_texts(bundle: Path, ranker: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[Pairs] = []

    def opened(folder: Path, models: OpenModels) -> Callable[[Pairs], Callable[[], np.ndarray]]:
        return lambda pairs: read.append(pairs) or (lambda: np.zeros(len(pairs), np.float32))  # type: ignore[func-returns-value]

    monkeypatch.setattr(model_runs, "RERANK_RUNNERS", [RerankRunner("one", opened), RerankRunner("other", opened)])
    request = RerankRequest(task="search", user="red mug", items=("mug", "drill", "saw"), sampled=(5.0,))
    list(ModelRuns(bundle, "cpu", rounds=1, sizes=(2, 5)).rerank(ranker, request, [1]))
    wanted = [
        [("red mug", item) for item in items] for items in (["mug", "drill"], ["mug", "drill", "saw", "mug", "drill"])
    ]
    assert read == [wanted[0], wanted[0], wanted[1], wanted[1]]


def test_processes_on_other_numbers_of_cores_are_handed_the_same_request(
    bundle: Path, ranker: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    handed: list[tuple[RerankRequest, int]] = []

    def measured(arguments: Sequence[str], threads: int) -> list[Line]:
        handed.append((RerankRequest.read(Path(arguments[arguments.index("--request") + 1])), threads))
        return []

    monkeypatch.setattr(model_runs, "run_in_process", measured)
    request = RerankRequest(task="search", user="Tür", items=("mug", "drill"), sampled=(5.0, 6.5))
    list(ModelRuns(bundle, "cpu", rounds=1).rerank(ranker, request, [1, 4]))
    assert handed == [(request, 1), (request, 4)]
