"""The generated shops in Chinese, and that those in English are what they were."""

from __future__ import annotations

import hashlib
import json
import re
from datetime import UTC, date, datetime
from pathlib import Path
from typing import get_args

import numpy as np
import pyarrow.parquet as pq
import pytest

from retrieval.data.dataset import load
from retrieval.sample_shop.phrases import PHRASES, Chinese
from retrieval.sample_shop.vocabulary import Kind, Language, load_words
from retrieval.sample_shop.write import SampleTables, sample_language, sample_tables, write_sample

KINDS: tuple[Kind, ...] = get_args(Kind)
SIZES = {"items": 160, "shoppers": 40, "events": 1_200, "queries": 80, "days": 60}
HAN = re.compile(r"[\u4e00-\u9fff]")


def tables(kind: Kind, language: Language) -> SampleTables:
    return sample_tables(kind=kind, language=language, seed=5, last_day=date(2025, 3, 31), **SIZES)


@pytest.fixture(scope="module", params=KINDS)
def kind(request: pytest.FixtureRequest) -> Kind:
    return request.param


@pytest.fixture(scope="module")
def shop(kind: Kind) -> SampleTables:
    return tables(kind, "zh")


def test_the_vocabularies_of_all_languages_have_one_structure(kind: Kind) -> None:
    words = {language: load_words(kind, language) for language in get_args(Language)}
    english = words.pop("en")
    for other in words.values():
        assert len(other.series) == len(set(other.series)) == len(english.series)
        assert len(set(other.brands)) == len(other.brands)
        np.testing.assert_array_equal(other.tiers, english.tiers)
        np.testing.assert_array_equal(other.department, english.department)
        np.testing.assert_array_equal(other.brands_of, english.brands_of)
        for mine, theirs in zip(other.goes_with, english.goes_with, strict=True):
            np.testing.assert_array_equal(mine, theirs)
        for mine, theirs in zip(other.categories, english.categories, strict=True):
            assert mine.days_of_use == theirs.days_of_use
            for part in ("nouns", "traits", "sizes", "looks"):
                assert len(getattr(mine, part)) == len(getattr(theirs, part)), (mine.name, part)


def test_no_title_has_a_synonym(kind: Kind, shop: SampleTables) -> None:
    synonyms = {name for category in load_words(kind, "zh").categories for name in category.nouns.values()}
    titles = "\n".join(shop.items["title"].to_pylist())
    assert not [name for name in synonyms if name in titles]


def test_everything_that_a_shopper_reads_is_chinese(shop: SampleTables) -> None:
    rows = shop.items.to_pylist()
    texts = [row["description"] for row in rows if row["description"]]
    texts += [name for row in rows for name in (row["title"], row["brand"], *row["category"])]
    texts += [query for query in shop.events["query"].to_pylist() if query] + shop.queries["text"].to_pylist()
    latin = {word for text in texts for word in re.findall(r"[A-Za-z]{2,}", text)}
    assert latin <= {"LED", "SPF", "USB"}
    assert all(HAN.search(text) for text in texts)
    assert all(row["title"].startswith(row["brand"]) for row in rows)


def test_prices_end_as_chinese_ones_do(shop: SampleTables) -> None:
    assert all(f"{price:.2f}".endswith(".90") for price in shop.items["price"].to_pylist())


def test_queries_are_distinct_with_and_without_spaces_and_a_quarter_is_misspelt(kind: Kind, shop: SampleTables) -> None:
    texts = shop.queries["text"].to_pylist()
    assert len(set(texts)) == len(texts)
    assert 0.15 < np.mean([" " in text for text in texts]) < 0.6
    words = load_words(kind, "zh")
    phrases = {*words.brands}
    for one in words.categories:
        phrases |= {*one.nouns, *one.nouns.values(), *one.traits, *one.sizes, *one.looks}
    known = re.compile(f"(?:{'|'.join(map(re.escape, sorted(phrases, key=len, reverse=True)))}| )+")
    wrong = [known.fullmatch(text) is None for text in texts]
    assert 0.2 < np.mean(wrong) <= 0.25
    assert not any(wrong[place] for place in range(len(texts)) if place % 4 != 3)


def test_the_grade_follows_the_signs_that_query_and_title_share(shop: SampleTables) -> None:
    texts = dict(zip(shop.queries["query_id"].to_pylist(), shop.queries["text"].to_pylist(), strict=True))
    titles = dict(zip(shop.items["item_id"].to_pylist(), shop.items["title"].to_pylist(), strict=True))
    shared: dict[int, list[float]] = {1: [], 2: [], 3: []}
    for row in shop.judgements.to_pylist():
        signs = HAN.findall(texts[row["query_id"]])
        shared[round(row["grade"])].append(np.mean([sign in titles[row["item_id"]] for sign in signs]))
    assert np.mean(shared[3]) > np.mean(shared[2]) + 0.1 > np.mean(shared[1]) + 0.2


def test_the_events_are_drawn_as_in_the_shop_in_english(kind: Kind, shop: SampleTables) -> None:
    english = tables(kind, "en")
    assert set(shop.events["event"].to_pylist()) == set(english.events["event"].to_pylist())
    assert 0.8 * SIZES["events"] < len(shop.events) < 1.2 * SIZES["events"]
    assert len(set(shop.events["user_id"].to_pylist())) == SIZES["shoppers"]


def test_a_shop_is_the_same_for_the_same_seed_keeps_the_contract_and_names_its_language(
    kind: Kind, tmp_path: Path
) -> None:
    first, again, english = (
        write_sample(tmp_path / name, kind=kind, language=language, **SIZES)
        for name, language in (("a", "zh"), ("b", "zh"), ("c", "en"))
    )
    for name in ("items.parquet", "events.parquet", "queries.parquet", "judgements.parquet"):
        assert (first / name).read_bytes() == (again / name).read_bytes()
    data = load(first, max_bad=0.0, max_unknown=0.0, now=datetime(2025, 4, 1, tzinfo=UTC))
    assert [file.bad + file.unknown for file in data.report.files] == [0, 0, 0, 0]
    assert (sample_language(first), sample_language(english)) == ("zh", "en")
    assert f"--kind {kind} --language zh --seed 7" in (first / "README.md").read_text("utf-8")
    assert "language" not in (english / "README.md").read_text("utf-8")
    assert list(pq.read_schema(english / "items.parquet").metadata) == [b"shortlist.sample"]


@pytest.mark.parametrize(("kind", "digest"), [("general", "ccdf29f8af7b0207"), ("groceries", "a8ce014b4c30a3c8")])
def test_the_texts_of_the_shop_in_english_stay_what_they_are(kind: Kind, digest: str) -> None:
    made = tables(kind, "en")
    texts = [made.items.select(["title", "brand", "category", "description"]).to_pylist(), made.queries.to_pylist()]
    assert hashlib.sha256(json.dumps(texts).encode()).hexdigest()[:16] == digest


def test_a_typo_is_a_sign_of_the_same_sound_or_a_sign_left_out() -> None:
    typos = {Chinese().misspelt("防水帐篷", np.random.default_rng(seed)) for seed in range(20)}
    assert typos == {"房水帐篷", "防水账篷", "防水帐蓬"}
    assert {Chinese().misspelt("马鞍凳", np.random.default_rng(seed)) for seed in range(20)} == {"马凳", "马鞍"}


def test_every_language_has_its_phrases() -> None:
    assert set(PHRASES) == set(get_args(Language))
