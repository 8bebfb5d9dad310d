"""Words of any language: forms of one character, marks, scripts without spaces."""

from __future__ import annotations

import pytest

from retrieval.sources.lexical import Lexical
from retrieval.sources.protocols import RequestBatch
from retrieval.text.analysis import Analyzer

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
