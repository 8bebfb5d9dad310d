"""Pairs become the tokens that sentence-transformers makes, and a pair that is too long keeps its item."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers, processors

from ranking.models.pair_tokens import USER_SHARE, PairTokenizer
from retrieval.errors import BadBundle

WORD = ["red", "mug", "steel", "drill"]


def _tokenizer(max_length: int = 16) -> PairTokenizer:
    names = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "a", "b", *WORD]
    raw = Tokenizer(models.WordLevel({name: number for number, name in enumerate(names)}, unk_token="[UNK]"))
    raw.pre_tokenizer = pre_tokenizers.Whitespace()
    raw.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    return PairTokenizer(raw, max_length=max_length)


def _one(tokenizer: PairTokenizer, user: str, item: str) -> list[int]:
    pairs = tokenizer.pairs([user], [item], np.array([0]), np.array([0]))
    batch = tokenizer.batch(pairs)
    assert batch.attention_mask.all()
    assert len(batch.input_ids[0]) == tokenizer.lengths(pairs)[0]
    return batch.input_ids[0].tolist()


def _words(*counts: int) -> list[str]:
    return [" ".join(WORD[i % 4] for i in range(count)) for count in counts]


def test_a_pair_carries_its_special_tokens_and_types() -> None:
    tokenizer = _tokenizer()
    batch = tokenizer.batch(tokenizer.pairs(["red", "red mug"], ["mug"], np.array([0, 1]), np.array([0, 0])))
    assert batch.input_ids.tolist() == [[2, 6, 3, 7, 3, 0], [2, 6, 7, 3, 7, 3]]
    assert batch.token_type_ids.tolist() == [[0, 0, 0, 1, 1, 0], [0, 0, 0, 0, 1, 1]]
    assert batch.attention_mask.tolist() == [[1, 1, 1, 1, 1, 0], [1] * 6]


def test_the_user_is_cut_before_the_item() -> None:
    tokenizer = _tokenizer(16)  # 13 tokens of text
    user, item = _words(20, 8)
    ids = _one(tokenizer, user, item)
    assert len(ids) == 16
    assert ids[1:6] == [6, 7, 8, 9, 6]  # the start of the user's text: the newest title
    assert ids[7:15] == [6, 7, 8, 9, 6, 7, 8, 9]  # the whole item


def test_an_item_that_fills_the_room_leaves_the_user_a_quarter() -> None:
    tokenizer = _tokenizer(16)
    user, item = _words(20, 40)
    ids = _one(tokenizer, user, item)
    assert ids.index(3) - 1 == 13 // USER_SHARE
    assert len(ids) == 16


def test_a_short_user_gives_its_room_to_the_item() -> None:
    ids = _one(_tokenizer(16), *_words(1, 40))
    assert (ids.index(3), len(ids)) == (2, 16)


@given(user=st.integers(0, 40), item=st.integers(0, 40), max_length=st.integers(8, 40))
@settings(max_examples=60, deadline=None)
def test_no_pair_exceeds_its_length_and_none_that_fits_is_cut(user: int, item: int, max_length: int) -> None:
    ids = _one(_tokenizer(max_length), *_words(user, item))
    assert len(ids) == min(max_length, user + item + 3)
    kept_item = len(ids) - ids.index(3) - 2
    assert kept_item >= min(item, (max_length - 3) * (USER_SHARE - 1) // USER_SHARE)


def test_each_distinct_text_is_tokenised_once() -> None:
    tokenizer = _tokenizer()
    pairs = tokenizer.pairs(["red", "red", "mug"], ["mug"] * 5, np.array([0, 1, 2, 2]), np.array([0, 1, 4, 4]))
    assert len(pairs.users.lengths) == 2
    assert len(pairs.items.lengths) == 1


def test_widths_are_rounded_up() -> None:
    tokenizer = _tokenizer()
    pairs = tokenizer.pairs(["red"], ["mug"], np.array([0]), np.array([0]))
    assert tokenizer.batch(pairs, multiple=8).input_ids.shape == (1, 8)


def test_empty_texts_leave_the_special_tokens() -> None:
    assert _one(_tokenizer(), "", "") == [2, 3, 3]
    assert len(_tokenizer().encode([], "item").lengths) == 0


def test_the_tokens_equal_those_of_sentence_transformers(tiny_ranker_folder: Path) -> None:
    from sentence_transformers import CrossEncoder

    users = ["red steel mug", "", "Cordless DRILL; saw 12,5", "x"]
    items = ["Mug | kitchen", "argan oil mask hair care", "\x00 strange ünï code"]
    pairs = [(user, item) for user in users for item in items]
    theirs = CrossEncoder(str(tiny_ranker_folder), device="cpu").preprocess(pairs)
    tokenizer = PairTokenizer.load(tiny_ranker_folder)
    ours = tokenizer.batch(tokenizer.pairs(users, items, np.repeat(np.arange(4), 3), np.tile(np.arange(3), 4)))
    assert len(np.unique(ours.input_ids)) > 20
    np.testing.assert_array_equal(ours.input_ids, theirs["input_ids"].numpy())
    np.testing.assert_array_equal(ours.token_type_ids, theirs["token_type_ids"].numpy())
    np.testing.assert_array_equal(ours.attention_mask, theirs["attention_mask"].numpy())


def test_a_template_without_types_and_with_two_separators_is_read_off() -> None:
    raw = Tokenizer(models.WordLevel({"<s>": 0, "<pad>": 1, "</s>": 2, "a": 3, "b": 4}, unk_token="<pad>"))
    raw.pre_tokenizer = pre_tokenizers.Whitespace()
    raw.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0))
    tokenizer = PairTokenizer(raw, max_length=12, pad_id=1)
    batch = tokenizer.batch(tokenizer.pairs(["a"], ["b", "b b"], np.array([0, 0]), np.array([0, 1])))
    assert batch.input_ids.tolist() == [[0, 3, 2, 2, 4, 2, 1], [0, 3, 2, 2, 4, 4, 2]]
    assert not batch.token_type_ids.any()


def test_a_folder_without_a_readable_tokenizer_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadBundle, match=r"tokenizer\.json"):
        PairTokenizer.load(tmp_path)
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(BadBundle, match="cannot be read"):
        PairTokenizer.load(tmp_path)


def test_a_length_without_room_for_text_is_refused() -> None:
    with pytest.raises(BadBundle, match="no room"):
        _tokenizer(4)


def test_each_side_is_read_under_its_own_prompt(tiny_ranker_folder: Path, tmp_path: Path) -> None:
    shutil.copytree(tiny_ranker_folder, tmp_path / "prompted")
    about = tmp_path / "prompted" / "config_sentence_transformers.json"
    config = json.loads(about.read_text()) | {"prompts": {"user": "red drill ", "item": "large "}}
    about.write_text(json.dumps(config))
    plain, prompted = PairTokenizer.load(tiny_ranker_folder), PairTokenizer.load(tmp_path / "prompted")
    assert _one(prompted, "mug", "saw") == _one(plain, "red drill mug", "large saw")
    assert prompted.encode(["saw"], "item").ids.tolist() == plain.encode(["large saw"], "item").ids.tolist()
    assert prompted.fingerprint != plain.fingerprint
    assert PairTokenizer.load(tmp_path / "prompted").fingerprint == prompted.fingerprint


def test_prompts_of_other_names_are_not_those_of_a_pair(tiny_ranker_folder: Path, tmp_path: Path) -> None:
    """sentence-transformers writes them before a whole pair, and only where they are asked for."""
    shutil.copytree(tiny_ranker_folder, tmp_path / "named")
    about = tmp_path / "named" / "config_sentence_transformers.json"
    about.write_text(json.dumps(json.loads(about.read_text()) | {"prompts": {"query": "red "}}))
    plain, named = PairTokenizer.load(tiny_ranker_folder), PairTokenizer.load(tmp_path / "named")
    assert _one(named, "mug", "saw") == _one(plain, "mug", "saw")
