"""The text part reads as much as its queries can teach, and moves as far as queries that it did not read allow."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer

from retrieval.data.dataset import DataSet
from retrieval.data.split import split_judgements
from retrieval.settings import RetrievalConfig, TextConfig
from retrieval.text.rendering import item_texts
from retrieval.training import text_part
from retrieval.training.text_part import TextData, TextTraining, fold_of
from retrieval.training.towers import TowerData
from walks import Shop

pytestmark = pytest.mark.usefixtures("one_thread")
ASKED = ("red", "blue", "green", "large", "small", "steel")
THINGS = ("mug", "drill", "saw", "hammer", "oil", "lamp")
TITLES = [f"{thing} {left} {right}" for thing in THINGS for left in "abc" for right in "xyz"]
N_QUERIES = 84


def shop_of(load_shop: Shop, *, sensible: bool) -> DataSet:
    """Each colour asks for one kind of thing; or, if not `sensible`, every query asks for anything."""
    rng = np.random.default_rng(4)
    wanted = [
        9 * (row % 6) + rng.permutation(9)[:2] if sensible else rng.permutation(54)[:2] for row in range(N_QUERIES)
    ]
    refused = [(items[0] + 18) % 54 for items in wanted]
    rows = [[*items, other] for items, other in zip(wanted, refused, strict=True)]
    return load_shop(
        items={"item_id": [f"i{row}" for row in range(54)], "title": TITLES},
        queries={
            "query_id": [f"q{row}" for row in range(N_QUERIES)],
            "text": [f"{ASKED[row % 6]} {'defghij'[row % 7]} {row // 42}" for row in range(N_QUERIES)],
        },
        judgements={
            "query_id": [f"q{row}" for row in range(N_QUERIES) for _ in range(3)],
            "item_id": [f"i{item}" for items in rows for item in items],
            "grade": [3.0, 3.0, 1.0] * N_QUERIES,
        },
    )


def config_of(folder: Path, **changes: object) -> RetrievalConfig:
    text = TextConfig(
        model=str(folder), batch=16, examples=320, learning_rate=5e-3, temperature=0.1, max_tokens=16, typos=0.0,
        word_drop=0.0,
    )  # fmt: skip
    return RetrievalConfig(text=text.model_copy(update=changes))


def fit(
    data: DataSet, config: RetrievalConfig, root: Path, told: list[str] | None = None
) -> tuple[SentenceTransformer, dict[str, float]]:
    source = TowerData(data, None, split_judgements(data))
    training = TextTraining(
        TextData.of(source, None, 1.0, config), item_texts(data.items), config, root / "work", "cpu",
        (told if told is not None else []).append, None,
    )  # fmt: skip
    figures = training.run(root / "model")
    return SentenceTransformer(str(root / "model"), device="cpu"), figures


def moved(model: SentenceTransformer, folder: Path) -> float:
    """How far the weights are from the pretrained ones."""
    before = SentenceTransformer(str(folder), device="cpu").state_dict()
    return max(float((value - before[name]).abs().max()) for name, value in model.state_dict().items())


def test_queries_that_teach_others_move_the_weights_and_the_figures_say_how_far(
    load_shop: Shop, tiny_encoder_folder: Path, tmp_path: Path
) -> None:
    told: list[str] = []
    data = shop_of(load_shop, sensible=True)
    model, figures = fit(data, config_of(tiny_encoder_folder), tmp_path, told)
    share = figures["text_tuned_share"]
    assert share > 0
    assert figures[f"text_ndcg@10, share {share:g}"] > figures["text_ndcg@10, share 0"] + 0.02
    assert figures["text_queries"] == len(split_judgements(data).folds["train"]), "each is tried by a model without it"
    assert moved(model, tiny_encoder_folder) > 1e-3
    assert sum("cross-validation" in line for line in told) == 1


def test_queries_that_teach_nothing_leave_the_weights_as_pretrained(
    load_shop: Shop, tiny_encoder_folder: Path, tmp_path: Path
) -> None:
    told: list[str] = []
    model, figures = fit(shop_of(load_shop, sensible=False), config_of(tiny_encoder_folder), tmp_path, told)
    assert figures["text_tuned_share"] == 0.0
    assert moved(model, tiny_encoder_folder) == 0.0
    assert "as pretrained" in told[-1]


def test_many_queries_are_held_out_and_stop_the_training_as_well(
    load_shop: Shop, tiny_encoder_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(text_part, "FEW_QUERIES", 50)
    monkeypatch.setattr(text_part, "HELD_OUT_QUERIES", 25)
    data = shop_of(load_shop, sensible=True)
    _, figures = fit(data, config_of(tiny_encoder_folder), tmp_path)
    assert 15 <= figures["text_queries"] <= 40
    assert figures["text_recall@10"] > 0


def test_a_share_that_was_set_is_taken_without_a_trial(
    load_shop: Shop, tiny_encoder_folder: Path, tmp_path: Path
) -> None:
    told: list[str] = []
    data = shop_of(load_shop, sensible=True)
    half, figures = fit(data, config_of(tiny_encoder_folder, tuned_share=0.5), tmp_path / "half", told)
    whole, _ = fit(data, config_of(tiny_encoder_folder, tuned_share=1.0), tmp_path / "whole")
    assert figures == {}
    assert len(told) == 1
    name = "0.model.encoder.layer.0.output.dense.weight"
    before = SentenceTransformer(str(tiny_encoder_folder), device="cpu").state_dict()[name]
    torch.testing.assert_close(half.state_dict()[name], (before + whole.state_dict()[name]) / 2)


def test_an_interrupted_cross_validation_goes_on_where_it_was(
    load_shop: Shop, tiny_encoder_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, config = shop_of(load_shop, sensible=True), config_of(tiny_encoder_folder)
    _, whole = fit(data, config, tmp_path / "whole")
    train, calls = text_part.train_text, list[int]()

    def fails_the_second_time(*parts: object, **named: object) -> object:
        calls.append(1)
        if len(calls) == 2:
            raise InterruptedError
        return train(*parts, **named)

    monkeypatch.setattr(text_part, "train_text", fails_the_second_time)
    with pytest.raises(InterruptedError):
        fit(data, config, tmp_path / "other")
    _, resumed = fit(data, config, tmp_path / "other")
    assert resumed == whole
    assert len(calls) == 2 + 3, "the fold that was done is not trained again"


def test_few_queries_with_many_judgements_are_not_read_again_and_again(
    load_shop: Shop, tiny_encoder_folder: Path
) -> None:
    def budget(n_queries: int, each: int) -> int:
        rows = np.arange(n_queries * each)
        data = load_shop(
            items={"item_id": [f"i{row}" for row in range(50)], "title": [f"mug {row}" for row in range(50)]},
            queries={
                "query_id": [f"q{row}" for row in range(n_queries)],
                "text": [f"red {row}" for row in range(n_queries)],
            },
            judgements={
                "query_id": [f"q{row // each}" for row in rows],
                "item_id": [f"i{row % 50}" for row in rows],
                "grade": [3.0 - row % 2 for row in rows],
                "split": ["test" if row // each == 0 else "train" for row in rows],
            },
        )
        return TextData.of(
            TowerData(data, None, split_judgements(data)), None, 1.0, config_of(tiny_encoder_folder)
        ).examples

    few, many, dense = budget(21, 4), budget(201, 4), budget(21, 40)
    assert 0 < few < dense < many, "what can be learned follows the queries more than their pairs"


def test_queries_too_few_to_judge_by_cost_no_training(
    load_shop: Shop, tiny_encoder_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(text_part, "MIN_QUERIES", N_QUERIES)
    monkeypatch.delattr(text_part, "train_text")
    told: list[str] = []
    model, figures = fit(shop_of(load_shop, sensible=True), config_of(tiny_encoder_folder), tmp_path, told)
    assert figures == {"text_tuned_share": 0.0}
    assert moved(model, tiny_encoder_folder) == 0.0
    assert len(told) == 1
    assert "left as pretrained" in told[0]


def test_folds_depend_on_the_text_alone() -> None:
    texts = [f"red {number}" for number in range(900)]
    folds = fold_of(texts, 3)
    assert set(folds.tolist()) == {0, 1, 2}
    assert np.bincount(folds).min() > 230
    np.testing.assert_array_equal(fold_of(texts[::-1], 3), folds[::-1])
