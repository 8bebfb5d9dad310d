"""Words of any language: forms of one character, marks, scripts without spaces."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from retrieval.sources.lexical import Lexical
from retrieval.sources.protocols import RequestBatch
from retrieval.text.analysis import Analyzer
from retrieval.text.analysis.stemming import SNOWBALL

SHOP = (
    "红色连衣裙夏季新款",
    "蓝色牛仔裤男士",
    "เครื่องชงกาแฟ",
    "ＵＳＢケーブル",
    "한국 전통 찻잔",
    "ເຄື່ອງຊົງກາເຟ",
    "ម៉ាស៊ីនឆុងកាហ្វេ",
    "ကော်ဖီစက်",
    "KitchenAid™ mixer",
    "हिन्दी किताब",
)


def found_by(query: str, analyzer: Analyzer | None = None, titles: tuple[str, ...] = SHOP) -> list[str]:
    """The titles that share a word with a query, best first."""
    hits = Lexical.of(titles, analyzer or Analyzer()).read(RequestBatch.of_texts([query])).top(len(titles))
    return [titles[row] for row in hits.rows[0] if row >= 0]


@pytest.mark.parametrize(
    ("query", "title"),
    [
        ("连衣裙", "红色连衣裙夏季新款"),
        ("牛仔裤", "蓝色牛仔裤男士"),
        ("裙", "红色连衣裙夏季新款"),
        ("กาแฟ", "เครื่องชงกาแฟ"),
        ("USBケーブル", "ＵＳＢケーブル"),
        ("ｹｰﾌﾞﾙ", "ＵＳＢケーブル"),
        ("찻잔", "한국 전통 찻잔"),
        ("ກາເຟ", "ເຄື່ອງຊົງກາເຟ"),
        ("កាហ្វេ", "ម៉ាស៊ីនឆុងកាហ្វេ"),
        ("ကော်ဖီ", "ကော်ဖီစက်"),
        ("kitchenaid", "KitchenAid™ mixer"),
        ("किताब", "हिन्दी किताब"),
    ],
)
def test_a_query_finds_first_what_has_its_words(query: str, title: str) -> None:
    assert found_by(query)[0] == title


def test_marks_belong_to_their_word() -> None:
    words = Analyzer().words
    assert words("cafetière") == words("cafetie\u0300re") == ["cafetière"]
    assert words("हिन्दी") == ["हिन्दी"]


def test_a_fraction_stands_apart_from_the_number_before_it() -> None:
    assert Analyzer().words("1½ in") == Analyzer().words("1 1/2 in")


def test_words_meet_with_and_without_accents_and_as_typed_comes_first() -> None:
    titles = ("Cafetière rouge", "Cafetiere rouge", "Théière rouge")
    french = Analyzer("fr")
    assert found_by("cafetière", french, titles) == ["Cafetière rouge", "Cafetiere rouge"]
    assert found_by("cafetie\u0300re", french, titles) == ["Cafetière rouge", "Cafetiere rouge"]
    assert found_by("CAFETIERE", french, titles) == ["Cafetiere rouge", "Cafetière rouge"]


@pytest.mark.parametrize(
    ("language", "one", "other"),
    [
        # as they are written
        ("none", "Straße", "STRASSE"),
        ("none", "œuvre", "Oeuvre"),
        ("none", "Ærø", "aero"),
        ("none", "ﬁlter", "filter"),
        ("none", "ＬＥＤ", "led"),
        ("none", "ｹｰﾌﾞﾙ", "ケーブル"),
        ("none", "garçon", "garcon"),
        ("none", "Łódź", "lodz"),
        ("none", "İSTANBUL", "istanbul"),
        ("none", "ёлка", "елка"),
        ("none", "καφές", "ΚΑΦΕΣ"),
        ("none", "كَرَاسِيّ", "كراسي"),
        ("none", "إبريق", "ابريق"),
        ("none", "كـــرسي", "كرسي"),
        ("none", "قهوة", "قهوه"),
        ("none", "שָׁלוֹם", "שלום"),
        ("none", "co\u00adop", "coop"),
        ("none", "٣", "3"),
        ("de", "Kühlschrank", "Kuehlschrank"),
        ("no", "Smørbrød", "Smoerbroed"),
        # by their forms
        ("en", "hinges", "hinge"),
        ("de", "Häuser", "haus"),
        ("de", "Stühle", "Stuhl"),
        ("fr", "théières", "theiere"),
        ("fr", "vélos", "vélo"),
        ("es", "camiones", "camión"),
        ("pt", "botões", "botao"),
        ("it", "lampade", "lampada"),
        ("nl", "schoenen", "schoen"),
        ("sv", "jackor", "jacka"),
        ("ru", "чашки", "чашка"),
        ("ar", "القهوة", "قهوة"),
    ],
)
def test_two_spellings_of_a_word_are_one(language: str, one: str, other: str) -> None:
    analyzer = Analyzer(language)
    assert analyzer.stems(one) == analyzer.stems(other) != []


@pytest.mark.parametrize(
    ("language", "one", "other"),
    [
        ("none", "か", "が"),  # marks of Kana are letters of their own
        ("none", "हल", "हाल"),
        ("none", "мой", "мои"),
        ("none", "hinges", "hinge"),
        ("en", "jacken", "jacke"),
    ],
)
def test_two_words_are_two(language: str, one: str, other: str) -> None:
    analyzer = Analyzer(language)
    assert analyzer.stems(one) != analyzer.stems(other)


GERMAN = (
    "Damen Regenjacke wasserdicht",
    "Jacke aus Leder",
    "Regen Schirm",
    "Fahrradhelm für Kinder",
    "Fahrrad",
    "Helm",
    "Karte zum Geburtstag",
    "Bett Wäsche",
)


@pytest.mark.parametrize(
    ("query", "title"),
    [
        ("Regenjacke", "Damen Regenjacke wasserdicht"),
        ("Jacken", "Damen Regenjacke wasserdicht"),
        ("Lederjacke", "Jacke aus Leder"),
        ("Kinderfahrradhelm", "Fahrradhelm für Kinder"),
        ("Helm", "Fahrradhelm für Kinder"),
        ("Geburtstagskarten", "Karte zum Geburtstag"),
        ("Bettwaesche", "Bett Wäsche"),
        ("Regenschirme", "Regen Schirm"),
    ],
)
def test_a_compound_is_found_by_parts_that_the_catalogue_has(query: str, title: str) -> None:
    assert title in found_by(query, Analyzer.of_catalogue("de", GERMAN), GERMAN)


def test_a_compound_is_split_only_where_the_catalogue_has_all_its_parts() -> None:
    analyzer = Analyzer.of_catalogue("de", GERMAN)
    assert analyzer.words("Handtasche Mitternacht") == ["handtasche", "mitternacht"]
    assert Analyzer.of_catalogue("en", ["rain", "coat"]).words("raincoat") == ["raincoat"]


def test_single_signs_count_less_than_pairs_of_them() -> None:
    titles = ("衣连裙子", "连衣长裤")
    assert found_by("连衣裙", titles=titles) == ["连衣长裤", "衣连裙子"]


@given(st.text(max_size=40), st.sampled_from(["none", "en", *SNOWBALL]))
def test_any_text_is_read_and_its_form_does_not_matter(text: str, language: str) -> None:
    analyzer = Analyzer(language)
    words = analyzer.words(text)
    assert analyzer.words(unicodedata.normalize("NFD", text)) == words
    assert all(map(analyzer.stem, words))
    assert all(text[start:end] for start, end, _ in analyzer.spelt_words(text))
