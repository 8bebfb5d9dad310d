"""Late interaction: texts are read apart, items lie in the index as whole numbers, scores are the trained model's."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from rich.console import Console
from sentence_transformers import CrossEncoder
from torch import nn

from ranking.models.cross_encoder import logit_module, run_pairs
from ranking.models.item_tokens import ItemTokens, StoredTokens
from ranking.models.late_interaction import LateColumn, LateScorer, late_fingerprint
from ranking.models.late_network import LateHead, make_late_interaction, open_late_interaction
from ranking.models.pair_tokens import PairTokenizer, TokenLists
from ranking.training.initial_model import new_cross_encoder
from ranking.training.pairs import GradeScale, PairSet, judged_pairs
from ranking.training.settings import RankerTraining
from ranking.training.train import train_ranker
from retrieval.encoders.runtime import TorchRunner
from retrieval.errors import BadBundle, BadConfig
from retrieval.text.rendering import item_texts
from retrieval.topk import Hits, Rows

pytestmark = pytest.mark.usefixtures("one_thread")

COLOURS = ("red", "blue", "green")
THINGS = ("mug", "drill", "saw", "lamp", "chair", "table")
TITLES = [f"{colour} {thing}" for colour in COLOURS for thing in THINGS] + ["", "red mug " * 60]
ITEMS = pa.table({"title": TITLES})
PAIRS = [(user, item) for user in ("red mug", "blue", "", "a b c d e f") for item in TITLES[:-1]]
TINY = RankerTraining(
    loss="logit_mse", late_interaction=True, head_rate=5.0, examples=4_000, batch_size=16, learning_rate=1e-3,
    dropout=0.0, max_length=32, evaluations=4, patience=4,
)  # fmt: skip


@pytest.fixture(scope="module")
def folder(tiny_ranker_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model with a head whose logits are spread out."""
    model = new_cross_encoder(tiny_ranker_folder, TINY)
    assert model.model is not None
    with torch.random.fork_rng():
        torch.manual_seed(2)
        nn.init.normal_(model.model.classifier.mix.weight, std=3.0)
        nn.init.normal_(model.model.classifier.score.weight, std=3.0)
    path = tmp_path_factory.mktemp("late") / "late"
    model.save_pretrained(str(path), create_model_card=False)
    return path


@pytest.fixture(scope="module")
def scorer(folder: Path) -> LateScorer:
    return LateScorer.load(folder, runtime="torch", device="cpu")


def texts_of(rows: Rows) -> list[str]:
    return item_texts(ITEMS.take(pa.array(rows)))


def refuse(rows: Rows) -> list[str]:
    raise AssertionError(f"the texts of {rows} were asked for")


def scored(scorer: LateScorer, pairs: list[tuple[str, str]] = PAIRS) -> np.ndarray:
    every = np.arange(len(pairs))
    users, items = [user for user, _ in pairs], [item for _, item in pairs]
    return scorer.score_tokenised(scorer.tokenizer.pairs(users, items, every, every))


@pytest.mark.parametrize("runtime", ["openvino", "torch"])
def test_scores_of_texts_apart_are_those_of_the_pair_that_was_trained(folder: Path, runtime: str) -> None:
    model, tokenizer, every = open_late_interaction(folder), PairTokenizer.load(folder), np.arange(len(PAIRS))
    tokenised = tokenizer.pairs([user for user, _ in PAIRS], [item for _, item in PAIRS], every, every)
    wanted = run_pairs(tokenizer, TorchRunner(logit_module(model), "cpu", "fp32"), tokenised)
    found = scored(LateScorer.load(folder, runtime=runtime, device="cpu"))  # type: ignore[arg-type]
    difference = np.abs(found - wanted) / wanted.std()  # items are whole numbers
    assert np.median(difference) < 0.02
    assert difference.max() < 0.15


def test_no_token_reads_the_other_text(folder: Path) -> None:
    model = open_late_interaction(folder)
    tokenizer = PairTokenizer.load(folder)
    told: list[torch.Tensor] = []
    model.model.classifier.register_forward_hook(lambda _, inputs, __: told.append(inputs[0]))
    for user in ("red", "large steel drill saw"):
        tokens = tokenizer.pairs([user], ["blue lamp table"], np.zeros(1, int), np.zeros(1, int))
        logit_module(model)(*map(torch.from_numpy, tokenizer.batch(tokens)))
    size = len(tokenizer.encode(["blue lamp table"], "item").ids) + 1
    torch.testing.assert_close(told[0][0, -size:], told[1][0, -size:], atol=1e-5, rtol=0)


def test_stored_vectors_give_the_scores_of_vectors_made_now_and_are_not_made_again(scorer: LateScorer) -> None:
    column = LateColumn(scorer)
    parts = [column.compute(ITEMS, at, min(at + 7, len(TITLES))) for at in range(0, len(TITLES), 7)]
    stored = StoredTokens.of(pa.chunked_array(parts))
    hits = Hits(np.array([[2, 0, 18, 1, 19], [5, 3, -1, 7, -1]]), np.zeros((2, 5), np.float32))
    users = ["red mug", "oil"]
    made = scorer.score_shortlists(users, ItemTokens(scorer.tokenizer, texts_of), hits, depth=4)
    kept = replace(scorer, stored=stored).score_shortlists(users, ItemTokens(scorer.tokenizer, refuse), hits, depth=4)
    np.testing.assert_array_equal(kept, made)
    assert np.isfinite(made).tolist() == [[True] * 4, [True, True, False, True]]
    asked: list[list[int]] = []
    tokens = ItemTokens(
        scorer.tokenizer, lambda rows: asked.append(rows.tolist()) or texts_of(rows), holds=lambda rows: rows != 5
    )
    np.testing.assert_array_equal(replace(scorer, stored=stored).score_shortlists(users, tokens, hits, depth=4), made)
    assert asked == [[5]]


def test_the_number_of_texts_that_are_read_is_that_of_distinct_ones(
    scorer: LateScorer, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[int] = []
    told = LateScorer._token_outputs
    monkeypatch.setattr(
        LateScorer,
        "_token_outputs",
        lambda self, texts, side: read.append(len(texts.indptr) - 1) or told(self, texts, side),
    )
    hits = Hits(np.array([[2, 0], [2, 0], [0, 1]]), np.zeros((3, 2), np.float32))
    scorer.score_shortlists(["a", "b", "c"], ItemTokens(scorer.tokenizer, texts_of), hits, depth=2)
    assert sorted(read) == [3, 3]


def test_nothing_to_score_is_no_score(scorer: LateScorer) -> None:
    tokens = ItemTokens(scorer.tokenizer, texts_of)
    assert scorer.score_shortlists(
        [], tokens, Hits(np.empty((0, 3), np.int64), np.empty((0, 3), np.float32)), 3
    ).shape == (0, 3)
    padded = Hits(np.full((1, 2), -1), np.zeros((1, 2), np.float32))
    assert np.isnan(scorer.score_shortlists(["a"], tokens, padded, 2)).all()
    assert scored(scorer, []).shape == (0,)
    assert scorer.item_vectors(TokenLists.of([])) == []


def words_in_common(seed: int) -> PairSet:
    """Queries of a colour and a thing; what both texts name decides the logit."""
    random = np.random.default_rng(seed)
    asked = [(COLOURS[a], THINGS[b]) for a, b in zip(random.integers(0, 3, 40), random.integers(0, 6, 40), strict=True)]
    item = np.stack([random.permutation(18)[:6] for _ in asked])
    grade = np.array([[1.0 + sum(word in TITLES[row].split() for word in words) for row in rows]
                      for words, rows in zip(asked, item, strict=True)])  # fmt: skip
    return judged_pairs(
        np.repeat(np.arange(40), 6), item.ravel(), grade.ravel(),
        query_texts=[" ".join(words) for words in asked], item_texts=TITLES, scale=GradeScale(1.0, 3.0),
    )  # fmt: skip


def test_what_two_texts_have_in_common_is_learned_kept_and_served(tiny_bert_folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "late"
    run = train_ranker(
        words_in_common(0), valid=words_in_common(1), start=tiny_bert_folder, out=out, checkpoints=tmp_path / "work",
        settings=TINY, device="cpu", console=Console(file=io.StringIO()),
    )  # fmt: skip
    assert run.best is not None
    assert run.best > 0.9
    scorer = LateScorer.load(out, device="cpu")
    exact, half, none = scored(scorer, [("red mug", item) for item in ("red mug", "red saw", "blue saw")])
    assert exact > half > none
    again = LateScorer.load(out, device="cpu")
    assert late_fingerprint(again) == late_fingerprint(scorer)


def test_the_best_checkpoint_is_what_is_kept(
    tiny_bert_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    figures = iter([0.9, 0.1, 0.2, 0.3])
    states: list[torch.Tensor] = []

    def evaluated(self: object, model: CrossEncoder, *_: object, **__: object) -> dict[str, float]:
        states.append(model.model.classifier.project.weight.detach().clone())
        return {"ndcg@10": next(figures)}

    monkeypatch.setattr("ranking.training.local.RankingEvaluator.__call__", evaluated)
    train_ranker(
        words_in_common(0), valid=words_in_common(1), start=tiny_bert_folder, out=tmp_path / "late",
        checkpoints=tmp_path / "work", settings=TINY.model_copy(update={"examples": 256}), device="cpu",
        console=Console(file=io.StringIO()),
    )  # fmt: skip
    kept = open_late_interaction(tmp_path / "late").model.classifier.project.weight
    torch.testing.assert_close(kept, states[0])
    assert not torch.equal(states[0], states[-1])


def test_another_kind_of_model_is_refused(tiny_ranker_folder: Path, scorer: LateScorer) -> None:
    with pytest.raises(BadBundle, match="no model of late interaction"):
        LateScorer.load(tiny_ranker_folder, device="cpu")
    with pytest.raises(BadBundle, match="no model of late interaction"):
        open_late_interaction(tiny_ranker_folder)
    model = CrossEncoder(str(tiny_ranker_folder), device="cpu")
    model[0].model = nn.Linear(2, 2)
    with pytest.raises(BadConfig, match="needs a BERT"):
        make_late_interaction(model)


def test_a_head_keeps_its_weights_when_late_interaction_is_made_again(folder: Path) -> None:
    model = open_late_interaction(folder)
    before = model.model.classifier
    make_late_interaction(model)
    assert model.model.classifier is before
    assert isinstance(before, LateHead)
