"""The catalogue of texts: complete in every language, and found for all that is told."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from string import Formatter

import pytest

import serving.answering.stages.describe as describe
import serving.texts
from ranking.features.registry import feature_groups
from retrieval.errors import BadRequest
from serving.request import CROSS_ENCODER, FEATURES, Answer
from serving.texts.catalogue import LANGUAGES, SENTENCES, catalogue, fallback_text, placeholders, retold, text

OTHERS = [language for language in LANGUAGES if language != "en"]
ORDERED_BY = {FEATURES, CROSS_ENCODER}  # the other constants of that module
CODES = {value for name, value in vars(describe).items() if name.isupper() and isinstance(value, str)} - ORDERED_BY
HAN = re.compile(r"[\u4e00-\u9fff]")


@pytest.mark.parametrize("language", OTHERS)
def test_every_text_is_there_in_every_language_with_the_same_placeholders(language: str) -> None:
    english, other = catalogue("en"), dict(catalogue(language))
    other.pop(SENTENCES)
    assert {table: list(texts) for table, texts in other.items()} == {
        table: list(texts) for table, texts in english.items()
    }
    for table, texts in english.items():
        for name, told in texts.items():
            assert sorted(placeholders(told)) == sorted(placeholders(other[table][name])), f"{table}.{name}"


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_text_is_a_template_that_can_be_filled(language: str) -> None:
    for table, texts in catalogue(language).items():
        for name, told in texts.items():
            fields = [field for _, field, _, _ in Formatter().parse(told) if field is not None]
            assert fields == placeholders(told), f"{table}.{name}"
            assert told == told.strip() or table in {"note", "gate_line"}, f"{table}.{name}"


@pytest.mark.parametrize("language", OTHERS)
def test_a_translated_sentence_adds_no_placeholder_to_the_english_one(language: str) -> None:
    for english, told in catalogue(language)[SENTENCES].items():
        assert set(placeholders(told)) <= set(placeholders(english)), english


def test_the_folder_holds_a_file_for_each_language_and_no_other() -> None:
    (folder,) = serving.texts.__path__
    assert {path.stem for path in Path(folder).glob("*.toml")} == set(LANGUAGES)


def test_a_language_without_texts_is_refused_with_those_there_are() -> None:
    with pytest.raises(BadRequest, match=r"no texts in the language 'fr'; give one of: en, zh"):
        text("note.release", "fr", release="r1")


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_fallback_of_an_answer_has_a_text(language: str) -> None:
    assert set(catalogue(language)["fallback"]) == CODES
    assert all(fallback_text(code, language) == told for code, told in catalogue(language)["fallback"].items())


def test_a_fallback_keeps_its_detail_and_an_unknown_one_is_told_as_it_is() -> None:
    code = f"{describe.SOURCES} (pip install 'shortlist[lambdamart]')"
    assert fallback_text(code).endswith("cannot run here (pip install 'shortlist[lambdamart]')")
    assert fallback_text(code, "zh").endswith("（pip install 'shortlist[lambdamart]'）")
    assert fallback_text("something new (of a package)", "zh") == "something new (of a package)"


def declared() -> Iterator[str]:
    for group in feature_groups():
        if group.compute.__module__.startswith("ranking."):
            yield from (feature.about for feature in group.features)
    yield from ("what words gives the candidate", "place in the list by words", "distance from the best by words")


def test_what_every_feature_is_can_be_read_in_chinese() -> None:
    assert [about for about in declared() if not HAN.search(retold(about, "zh"))] == []
    assert retold("what co_occurrence gives the candidate", "zh") == "来源“一起购买”给出的得分"
    assert retold("how often it was taken in the 7 days before", "zh") == "此前 7 天内被购买的次数"


def test_why_a_data_set_was_split_so_can_be_read_in_chinese() -> None:
    reasons = [
        "temporal: there are baskets and timestamps differ across users; the last 30 days are test",
        "leave_one_out: asked for",
        "leave_one_out: there are no baskets",
        "leave_one_out: the time windows would hold fewer than 20 test requests, or none in another fold",
        "leave_one_out: timestamps are positions rather than dates (80% of the users share their last one)",
        "queries by hash of their id, 70/10/20: the judgements have no split column",
        "queries by hash of their id, 70/10/20: their split column lacks train or test",
        "queries by the judgements' own split column",
        "queries by the judgements' own split column; it has no valid, so a tenth of train is held out",
        "queries by the judgements' own split column; 3 queries name several splits and go to the strictest",
    ]
    for reason in reasons:
        told = retold(reason, "zh")
        assert HAN.search(told), reason
        assert not re.search(r"[a-z]{3,} [a-z]{2,}", told.replace("train 或 test", "")), told


def test_a_sentence_that_nobody_translated_stays_english() -> None:
    assert retold("a sentence of another package", "zh") == "a sentence of another package"
    assert retold("there are no baskets") == "there are no baskets"


def test_the_notes_of_an_answer_are_in_the_language_asked_for() -> None:
    answer = Answer(
        (), "r1", fallbacks=("popular items",), degraded=("rerank, full model: 12 of 30 places",), corrected_query="锅"
    )
    assert answer.notes() == (
        "searched for '锅'",
        "popular items: nothing is known of who asks",
        "rerank, full model: 12 of 30 places",
    )
    assert answer.notes("zh") == (
        "已按“锅”搜索",
        "热门商品：还不了解您的喜好",
        "时间所限，full 模型只读了前 12 位（共 30 位）",
    )
    assert answer.to_dict("zh")["notes"] == list(answer.notes("zh"))
    assert answer.to_dict()["fallbacks"] == answer.to_dict("zh")["fallbacks"] == ["popular items"]
    assert "notes" not in answer.to_dict()
