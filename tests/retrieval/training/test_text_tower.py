"""Fine-tuning of the text encoder on sentence-transformers' trainer."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from sentence_transformers import SentenceTransformer
from torch import Tensor

from retrieval.errors import BadConfig
from retrieval.settings import TextConfig
from retrieval.topk import CSR
from retrieval.training.text_batches import Teacher
from retrieval.training.text_loss import TextLoss
from retrieval.training.text_pairs import TextPairs
from retrieval.training.text_tower import HeldOutRecall, hashed_share, train_text

pytestmark = pytest.mark.usefixtures("one_thread")
ASKED = ("red", "blue", "green", "large", "small", "steel", "wood", "hair")
OTHERS = [f"table {left} {right}" for left in "abcdef" for right in "uvwxyz"]
ITEM_TEXTS = ["mug a", "drill b", "saw c", "hammer d", "oil e", "mask f", "lamp g", "chair h", *OTHERS]
CONFIG = TextConfig(batch=8, learning_rate=5e-3, temperature=0.1, max_tokens=16, warmup=0.1, typos=0.0, word_drop=0.0)


def pairs_of(rows: NDArray[np.int64] | None = None) -> TextPairs:
    """Each word asks for one item, which shares no word with it."""
    rows = np.arange(len(ASKED)) if rows is None else rows
    known = CSR.from_lists([[row] for row in range(len(ASKED))])
    return TextPairs(tuple(ASKED[row] for row in rows), rows, rows, known)


def fit(
    folder: Path, work: Path, *, config: TextConfig = CONFIG, examples: int = 400, seed: int = 1, held: bool = True,
    pairs: TextPairs | None = None, teacher: Teacher | None = None,
) -> tuple[SentenceTransformer, float | None]:  # fmt: skip
    model = SentenceTransformer(str(folder), device="cpu")
    held_out = pairs_of() if held else pairs_of(np.empty(0, np.int64))
    best = train_text(
        model, pairs or pairs_of(), held_out, ITEM_TEXTS,
        config=config, examples=examples, work=work, seed=seed, device="cpu", teacher=teacher,
    )  # fmt: skip
    return model, best


def judge(queries: Sequence[str], items: Sequence[str]) -> NDArray[np.float32]:
    """A teacher that knows what answers what."""
    return np.array(
        [8.0 * (ITEM_TEXTS.index(item) == ASKED.index(query)) for query, item in zip(queries, items, strict=True)],
        np.float32,
    )


def places(model: SentenceTransformer, texts: Sequence[str] = ITEM_TEXTS) -> list[int]:
    """The best item of each query."""
    asked, items = model.encode_query(list(ASKED)), model.encode_document(list(texts))
    return [int(best) for best in (asked @ items.T / np.linalg.norm(items, axis=1)).argmax(axis=1)]


def same(left: SentenceTransformer, right: SentenceTransformer) -> bool:
    weights = right.state_dict()
    return all(torch.equal(value, weights[name]) for name, value in left.state_dict().items())


def test_pairs_are_learned_and_nothing_but_the_vectors_changes(
    tiny_encoder_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = SentenceTransformer(str(tiny_encoder_folder), device="cpu")
    model, best = fit(tiny_encoder_folder, tmp_path, held=False)
    assert sum(place == row for row, place in enumerate(places(before))) <= 2
    assert sum(place == row for row, place in enumerate(places(model))) >= 6
    assert best is None
    assert model.max_seq_length == before.max_seq_length
    assert not model.training
    assert capsys.readouterr().out == ""
    words = "0.model.embeddings.word_embeddings.weight"
    assert torch.equal(model.state_dict()[words], before.state_dict()[words])


def test_the_state_of_the_best_held_out_recall_is_kept(tiny_encoder_folder: Path, tmp_path: Path) -> None:
    def recall(model: SentenceTransformer) -> float:
        return HeldOutRecall(pairs_of(), ITEM_TEXTS, np.random.default_rng(0))(model)["recall@10"]

    model, best = fit(tiny_encoder_folder, tmp_path)
    assert best == recall(model)
    assert best > recall(SentenceTransformer(str(tiny_encoder_folder), device="cpu")) + 0.3


def test_word_embeddings_move_where_they_may(tiny_encoder_folder: Path, tmp_path: Path) -> None:
    config = CONFIG.model_copy(update={"freeze_word_embeddings": False})
    model, best = fit(tiny_encoder_folder, tmp_path, config=config, examples=16, held=False)
    before = SentenceTransformer(str(tiny_encoder_folder), device="cpu")
    words = "0.model.embeddings.word_embeddings.weight"
    assert not torch.equal(model.state_dict()[words], before.state_dict()[words])
    assert best is None


def test_the_same_seed_gives_the_same_weights(tiny_encoder_folder: Path, tmp_path: Path) -> None:
    made = [
        fit(tiny_encoder_folder, tmp_path / str(i), seed=seed, examples=48, held=False)[0]
        for i, seed in enumerate((1, 1, 2))
    ]
    assert same(made[0], made[1])
    assert not same(made[0], made[2])


class Interrupted(Exception):
    """What a test throws into a run."""


@pytest.mark.parametrize("held", [True, False])
def test_an_interrupted_run_goes_on_and_ends_as_it_would_have(
    tiny_encoder_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, held: bool
) -> None:
    whole, best = fit(tiny_encoder_folder, tmp_path / "whole", examples=80, held=held)
    forward, heard = TextLoss.forward, iter(range(1000))

    def fails(self: TextLoss, sentence_features: Iterable[dict[str, Tensor]], labels: dict[str, Tensor]) -> Tensor:
        if next(heard) == 7:
            raise Interrupted
        return forward(self, sentence_features, labels)

    monkeypatch.setattr(TextLoss, "forward", fails)
    with pytest.raises(Interrupted):
        fit(tiny_encoder_folder, tmp_path / "work", examples=80, held=held)
    resumed, again = fit(tiny_encoder_folder, tmp_path / "work", examples=80, held=held)
    assert next(heard) == 1 + 7 + 4  # of ten steps the last four: the checkpoint stood at the sixth
    assert again == best
    assert same(resumed, whole)


def test_training_reads_the_models_own_prompts(
    tiny_encoder_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[list[int]] = []
    forward = TextLoss.forward

    def spy(self: TextLoss, sentence_features: Iterable[dict[str, Tensor]], labels: dict[str, Tensor]) -> Tensor:
        features = list(sentence_features)
        seen.extend(sorted(set(part["input_ids"][:, 1].tolist())) for part in features)
        return forward(self, features, labels)

    monkeypatch.setattr(TextLoss, "forward", spy)
    model = SentenceTransformer(
        str(tiny_encoder_folder), prompts={"query": "argan ", "document": "kitchen "}, device="cpu"
    )
    words = [model.tokenizer.convert_tokens_to_ids(word) for word in ("argan", "kitchen")]
    train_text(
        model, pairs_of(), pairs_of(np.empty(0, np.int64)), ITEM_TEXTS,
        config=CONFIG, examples=8, work=tmp_path, seed=1, device="cpu",
    )  # fmt: skip
    assert seen == [[words[0]], [words[1]]]


HARD = {"hard_negatives": 2, "negative_window": (0, 6), "negative_margin": None}
SETTINGS: dict[str, dict[str, object]] = {
    "bce": {"loss": "bce", "temperature": 1.0, "learning_rate": 3e-3},
    "log_q": {"log_q": True},
    "mini_batch": {"mini_batch": 3},
    "matryoshka": {"matryoshka": (8, 16)},
    "hard": HARD,
    "distil": HARD | {"distil": 0.02},
    "augmented": {"typos": 0.2, "word_drop": 0.2, "field_loss": 0.2},
}


def changed(**changes: object) -> TextConfig:
    return TextConfig.model_validate(CONFIG.model_dump() | changes)


@pytest.mark.parametrize("name", SETTINGS)
def test_pairs_are_learned_under_each_setting(tiny_encoder_folder: Path, tmp_path: Path, name: str) -> None:
    teacher = judge if name == "distil" else None
    config = changed(**SETTINGS[name])
    model, _ = fit(tiny_encoder_folder, tmp_path, config=config, examples=480, held=False, teacher=teacher)
    found = [place == row for row, place in enumerate(places(model, ITEM_TEXTS[: len(ASKED)]))]
    assert sum(found) >= 4


def test_grades_are_learned_as_cosines(tiny_encoder_folder: Path, tmp_path: Path) -> None:
    owner = np.repeat(np.arange(8), 2)
    item, grade = (owner + np.tile([0, 1], 8)) % 8, np.tile(np.array([1, 0], np.float32), 8)
    pairs = TextPairs(tuple(ASKED[row] for row in owner), owner, item, pairs_of().known, grade)
    model, _ = fit(tiny_encoder_folder, tmp_path, config=changed(loss="mse"), examples=640, held=False, pairs=pairs)
    cosines = (
        model.encode_query(list(pairs.text), normalize_embeddings=True)
        @ model.encode_document(ITEM_TEXTS[:8], normalize_embeddings=True).T
    )
    good, bad = cosines[np.arange(16), item].reshape(8, 2).mean(axis=0)
    assert good > 0.75
    assert bad < 0.25


@pytest.mark.parametrize("grades", [(1.0, 0.1), (0.1, 1.0)])
def test_of_two_positives_of_a_query_the_higher_grade_comes_nearer(
    tiny_encoder_folder: Path, tmp_path: Path, grades: tuple[float, float]
) -> None:
    owner = np.repeat(np.arange(4), 2)
    item, grade = np.arange(8), np.tile(np.array(grades, np.float32), 4)
    known = CSR.from_lists([[2 * row, 2 * row + 1] for row in range(4)])
    pairs = TextPairs(tuple(ASKED[row] for row in owner), owner, item, known, grade)
    model, _ = fit(tiny_encoder_folder, tmp_path, config=changed(), examples=96, held=False, pairs=pairs)
    queries = model.encode_query(list(pairs.text), normalize_embeddings=True)
    items = model.encode_document(ITEM_TEXTS[:8], normalize_embeddings=True)
    first, second = (queries * items).sum(axis=1).reshape(4, 2).mean(axis=0)
    assert (first > second) == (grades[0] > grades[1])


def test_an_interrupted_run_goes_on_with_what_it_had_mined(
    tiny_encoder_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = changed(**SETTINGS["distil"] | SETTINGS["augmented"], mining_rounds=2, mini_batch=3, log_q=True)
    whole, best = fit(tiny_encoder_folder, tmp_path / "whole", config=config, examples=80, teacher=judge)
    forward, heard = TextLoss.forward, iter(range(1000))

    def fails(self: TextLoss, sentence_features: Iterable[dict[str, Tensor]], labels: dict[str, Tensor]) -> Tensor:
        if next(heard) == 4:
            raise Interrupted
        return forward(self, sentence_features, labels)

    monkeypatch.setattr(TextLoss, "forward", fails)
    with pytest.raises(Interrupted):
        fit(tiny_encoder_folder, tmp_path / "work", config=config, examples=80, teacher=judge)
    resumed, again = fit(tiny_encoder_folder, tmp_path / "work", config=config, examples=80, teacher=judge)
    assert next(heard) == 1 + 4 + 7  # the checkpoint stood at the third of ten steps, within the first round
    assert again == best
    assert same(resumed, whole)


def test_a_setting_that_asks_for_more_than_there_is_is_refused(tiny_encoder_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(BadConfig, match="matryoshka 64 is more than the 32 dimensions"):
        fit(tiny_encoder_folder, tmp_path, config=changed(matryoshka=(64,)))
    with pytest.raises(BadConfig, match="distil needs a teacher"):
        fit(tiny_encoder_folder, tmp_path, config=changed(**SETTINGS["distil"]))


def test_held_out_recall_is_that_of_the_model_as_it_is(tiny_encoder_folder: Path) -> None:
    model, rng = SentenceTransformer(str(tiny_encoder_folder), device="cpu"), np.random.default_rng(0)
    rows = np.array([0, 9, 20, 33])
    twins = TextPairs(tuple(ITEM_TEXTS[row] for row in rows), rows, rows, CSR.from_lists([[]] * len(ITEM_TEXTS)))
    assert HeldOutRecall(twins, ITEM_TEXTS, rng)(model) == {"recall@10": 1.0}
    strangers = TextPairs(tuple(ITEM_TEXTS[row] for row in rows), rows, rows[[1, 0, 1, 0]], twins.known)
    assert HeldOutRecall(strangers, ITEM_TEXTS, rng)(model)["recall@10"] < 1.0


def test_a_share_of_the_keys_is_the_same_in_every_run() -> None:
    keys = [f"user {number}" for number in range(2000)]
    picked = hashed_share(keys, 0.3)
    assert 0.26 < picked.mean() < 0.34
    assert picked.tolist() == [bool(hashed_share([key], 0.3)[0]) for key in keys]
    assert not (picked & ~hashed_share(keys, 0.5)).any()
