"""The scorer scores as sentence-transformers does, in any batch and order, on OpenVINO without torch."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from ranking.models.cross_encoder import CrossEncoderScorer, adopt_cross_encoder, scorer_fingerprint, sigmoid
from ranking.models.item_tokens import ItemTokens
from retrieval.errors import BadBundle
from retrieval.topk import Hits

PAIRS = [
    ("red mug", "steel mug | kitchen"),
    ("", "argan oil mask"),
    ("cordless drill; saw; hammer", "drill"),
    ("x y z", ""),
    ("large wood table", "small wood chair | garden | price 5 to 10"),
]


@pytest.fixture(scope="module")
def scorer(tiny_ranker_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> CrossEncoderScorer:
    return CrossEncoderScorer.load(tiny_ranker_folder, cache=tmp_path_factory.mktemp("runtime"))


def _theirs(folder: Path, *, logits: bool = False) -> np.ndarray:
    import torch
    from sentence_transformers import CrossEncoder

    activation = torch.nn.Identity() if logits else None
    return CrossEncoder(str(folder), device="cpu").predict(PAIRS, activation_fn=activation, show_progress_bar=False)


def test_both_runtimes_score_as_sentence_transformers(tiny_ranker_folder: Path, scorer: CrossEncoderScorer) -> None:
    wanted = _theirs(tiny_ranker_folder, logits=True)
    assert wanted.std() > 0.01
    np.testing.assert_allclose(scorer.score(PAIRS), wanted, atol=1e-4)
    on_torch = CrossEncoderScorer.load(tiny_ranker_folder, runtime="torch", device="cpu")
    np.testing.assert_allclose(on_torch.score(PAIRS), wanted, atol=1e-5)
    np.testing.assert_allclose(scorer.predict(PAIRS), _theirs(tiny_ranker_folder), atol=1e-4)


def test_batch_and_order_do_not_change_a_score(scorer: CrossEncoderScorer) -> None:
    together = scorer.score(PAIRS)
    np.testing.assert_allclose([scorer.score([pair])[0] for pair in PAIRS], together, atol=1e-5)
    np.testing.assert_allclose(scorer.score(PAIRS[::-1])[::-1], together, atol=1e-5)


def test_nothing_scores_to_nothing(scorer: CrossEncoderScorer) -> None:
    assert scorer.score([]).shape == (0,)


def test_a_shortlist_is_scored_place_by_place(scorer: CrossEncoderScorer) -> None:
    items = ["steel mug", "drill", "lamp", "argan oil"]
    hits = Hits(np.array([[3, 0, 1], [2, -1, -1]]), np.zeros((2, 3), np.float32))
    counted: list[int] = []
    tokens = ItemTokens(scorer.tokenizer, lambda rows: [items[row] for row in rows])
    scores = scorer.score_shortlists(["red mug", "oil"], tokens, hits, depth=2, done=counted.append)
    assert scores.shape == (2, 2)
    expected = scorer.score([("red mug", "argan oil"), ("red mug", "steel mug"), ("oil", "lamp")])
    np.testing.assert_allclose(scores[[0, 0, 1], [0, 1, 0]], expected, atol=1e-5)
    assert np.isnan(scores[1, 1])
    assert sum(counted) == 3


def test_a_warm_start_leaves_torch_out(tiny_ranker_folder: Path, tmp_path: Path) -> None:
    CrossEncoderScorer.load(tiny_ranker_folder, cache=tmp_path)
    program = (
        "import sys; from pathlib import Path; from ranking.models.cross_encoder import CrossEncoderScorer\n"
        f"s = CrossEncoderScorer.load(Path({str(tiny_ranker_folder)!r}), cache=Path({str(tmp_path)!r}))\n"
        "print(s.score([('red mug', 'mug')]).shape, sorted({'torch', 'transformers'} & set(sys.modules)))"
    )
    root = Path(__file__).parents[3]
    run = subprocess.run(
        [sys.executable, "-c", program], check=True, cwd=root, timeout=60, capture_output=True, text=True
    )
    assert run.stdout.split("\n")[0] == "(1,) []"


def test_the_fingerprint_follows_the_weights_and_the_tokenizer(tiny_ranker_folder: Path, tmp_path: Path) -> None:
    import shutil

    copy = tmp_path / "copy"
    shutil.copytree(tiny_ranker_folder, copy)
    assert scorer_fingerprint(copy) == scorer_fingerprint(tiny_ranker_folder)
    tokenizer = json.loads((copy / "tokenizer.json").read_text())
    tokenizer["normalizer"]["lowercase"] = False
    (copy / "tokenizer.json").write_text(json.dumps(tokenizer))
    assert scorer_fingerprint(copy) != scorer_fingerprint(tiny_ranker_folder)


def test_an_adopted_model_scores_as_before(tiny_ranker_folder: Path, tmp_path: Path) -> None:
    adopt_cross_encoder(tiny_ranker_folder, tmp_path / "adopted")
    adopted = CrossEncoderScorer.load(tmp_path / "adopted")
    np.testing.assert_allclose(adopted.predict(PAIRS), _theirs(tiny_ranker_folder), atol=1e-4)


def test_a_model_without_token_types_is_adopted(tmp_path: Path) -> None:
    from sentence_transformers import CrossEncoder
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast, RobertaConfig, RobertaForSequenceClassification

    names = ["<s>", "<pad>", "</s>", "<unk>", *"abcdefghijklmnopqrstuvwxyz", "mug", "red", "drill"]
    raw = Tokenizer(models.WordLevel({name: number for number, name in enumerate(names)}, unk_token="<unk>"))
    raw.pre_tokenizer = pre_tokenizers.Whitespace()
    raw.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0))
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=raw,
        pad_token="<pad>",
        unk_token="<unk>",
        model_max_length=40,
        model_input_names=["input_ids", "attention_mask"],
    )
    config = RobertaConfig(
        vocab_size=len(names),
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=42,
        type_vocab_size=1,
        pad_token_id=1,
        num_labels=1,
        initializer_range=0.5,
    )
    folder = tmp_path / "roberta"
    RobertaForSequenceClassification(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    CrossEncoder(str(folder), device="cpu").save_pretrained(str(folder))
    adopt_cross_encoder(folder, tmp_path / "adopted")
    scores = CrossEncoderScorer.load(tmp_path / "adopted").predict(PAIRS)
    np.testing.assert_allclose(scores, _theirs(folder), atol=1e-4)


def test_a_model_with_a_prompt_is_not_adopted(tiny_ranker_folder: Path, tmp_path: Path) -> None:
    import shutil

    prompted = tmp_path / "prompted"
    shutil.copytree(tiny_ranker_folder, prompted)
    config = json.loads((prompted / "config_sentence_transformers.json").read_text())
    config |= {"prompts": {"query": "red drill saw: "}, "default_prompt_name": "query"}
    (prompted / "config_sentence_transformers.json").write_text(json.dumps(config))
    with pytest.raises(BadBundle, match="prompt"):
        adopt_cross_encoder(prompted, tmp_path / "out")


def test_a_model_with_three_outputs_is_not_adopted(tiny_bert_folder: Path, tmp_path: Path) -> None:
    from sentence_transformers import CrossEncoder

    CrossEncoder(str(tiny_bert_folder), num_labels=3, device="cpu").save_pretrained(str(tmp_path / "nli"))
    with pytest.raises(BadBundle, match="3 outputs"):
        adopt_cross_encoder(tmp_path / "nli", tmp_path / "out")


def test_a_folder_that_is_no_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadBundle):
        CrossEncoderScorer.load(tmp_path)


@pytest.mark.parametrize(
    ("config", "kind"),
    [
        ({"activation_fn": "torch.nn.modules.linear.Identity"}, "identity"),
        ({"activation_fn": "torch.nn.modules.activation.Sigmoid"}, "sigmoid"),
        ({}, "sigmoid"),
    ],
)
def test_the_activation_is_the_models_own(
    config: dict[str, str], kind: str, tiny_ranker_folder: Path, tmp_path: Path
) -> None:
    import shutil

    shutil.copytree(tiny_ranker_folder, tmp_path / "copy")
    (tmp_path / "copy" / "config_sentence_transformers.json").write_text(json.dumps(config))
    assert CrossEncoderScorer.load(tmp_path / "copy", runtime="torch", device="cpu").activation == kind


def test_sigmoid_does_not_overflow() -> None:
    np.testing.assert_allclose(sigmoid(np.array([-1e4, 0, 1e4])), [0, 0.5, 1])
