"""Product codes: what may be one in a query, its key, and the columns that hold them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from retrieval.text.codes import INSIDE, LABELLED, MOST_WORDS, WHOLE, code_key, is_code_column, typed_codes

CODE_COLUMNS = (
    "sku", "gtin", "GTIN-13", "gtin14", "ean", "EAN13", "ean_code", "upc", "UPC-A", "barcode", "Barcodes",
    "Variant Barcode", "Variant SKU", "_sku", "isbn", "ISBN-13", "mpn", "g:mpn", "part_number", "partno", "Part No.",
    "partNumber", "manufacturer_part_number", "oem number", "model_number", "ModelNo", "item_number", "product_code",
    "stockCode", "catalog_no", "supplier_reference", "Artikelnummer", "Artikel-Nr.", "Art.-Nr.", "Bestellnummer",
    "Herstellernummer", "Teilenummer", "Strichcode", "référence", "code-barres", "numéro d'article",
    "Référence fabricant", "referencia", "código de barras", "codice articolo", "artikelnr", "streepjescode",
    "varenummer", "kod produktu",
    "артикул", "штрихкод", "货号", "条形码", "商品编码", "型号", "JANコード", "品番", "바코드", "상품코드",
)  # fmt: skip
OTHER_COLUMNS = (
    "title", "category", "category_code", "brand", "model", "country_code", "phone number", "house number", "tax_code",
    "colour code", "postcode", "number_of_reviews", "part", "article", "barometer", "upcoming", "season", "code_name",
    "currency code", "shipping number", "reference price", "参数", "颜色", "numero",
)  # fmt: skip


@pytest.mark.parametrize("name", CODE_COLUMNS)
def test_columns_of_codes_are_known_by_their_names(name: str) -> None:
    assert is_code_column(name)


@pytest.mark.parametrize("name", OTHER_COLUMNS)
def test_other_columns_hold_no_codes(name: str) -> None:
    assert not is_code_column(name)


@pytest.mark.parametrize(
    "typed", ["kx-0011-b", "KX0011B", "KX 0011 B", "#KX-0011-B.", "ＫＸ－００１１－Ｂ", "kx_0011/b", "KX–0011–B"]
)
def test_the_ways_to_type_a_code_have_one_key(typed: str) -> None:
    assert code_key(typed) == "kx0011b"


@pytest.mark.parametrize(
    "typed",
    [
        "036000291452",
        "36000291452",
        "0036000291452",
        "00036000291452",
        "0 36000 29145 2",
        "'036000291452",
        "36000291452.0",
    ],
)
def test_zeros_in_front_of_a_barcode_mean_nothing(typed: str) -> None:
    assert code_key(typed) == "36000291452"


def test_zeros_in_front_of_other_codes_mean_something() -> None:
    assert code_key("0012") == "0012"
    assert code_key("00AB1234567") == "00ab1234567"
    assert code_key("٠١٢") == "012"


@pytest.mark.parametrize(
    ("query", "inside"),
    [
        ("price of KX-0011-B", "kx0011b"),
        ("KX-0011-B blue", "kx0011b"),
        ("is kx 0011 b in stock", "kx0011b"),
        ("(KX-0011-B)", "kx0011b"),
        ("sony WH-1000XM4, black", "wh1000xm4"),
        ("bosch gsr 18v-28 drill", "gsr18v28"),
        ("货号KX-0011-B蓝色", "kx0011b"),
        ("4006381333931 edding", "4006381333931"),
        ("edding 04006381333931", "4006381333931"),
        ("organic 4 006381 333931", "4006381333931"),
    ],
)
def test_a_code_is_seen_inside_of_a_longer_query(query: str, inside: str) -> None:
    assert inside in {code.key for code in typed_codes(query) if code.score <= LABELLED}


@pytest.mark.parametrize(
    "query",
    [
        "copper pipe 1/4 in", "calendar 2024", "usb c cable 2", "red mug 12", "bulb 60 w", "10 000 nails", "12",
        "iphone 14 pro", "4 pack of towels", "top 100 gifts 2023 2024", "shoes size 42", "2024/25",
            "1/4 x 3/8", "1500 ml", "30x40 cm", "6' 2\"", "led 1200lm",
        "10-20-10 fertilizer", "$19.99", "mens rain jacket", "v8", "红色 连衣裙 2024",
    ],
)  # fmt: skip
def test_plain_words_and_numbers_have_no_key(query: str) -> None:
    assert not [code for code in typed_codes(query) if code.key]


@pytest.mark.parametrize(
    ("query", "rest"),
    [
        ("SKU: KX-0011-B", "KX-0011-B"), ("sku 4711", "4711"), ("Art.-Nr. 4711", "4711"), ("part no. 12", "12"),
        ("EAN 4006381333931", "4006381333931"), ("Référence: 4711", "4711"), ("货号：KX11", "KX11"),
        ("#4711", "4711"), ("“4711”.", "4711"), ("model number: A-1", "A-1"),
    ],
)  # fmt: skip
def test_what_follows_a_label_is_read_as_a_whole(query: str, rest: str) -> None:
    assert rest in {code.text for code in typed_codes(query) if code.score == LABELLED}


def test_the_query_itself_is_what_counts_most() -> None:
    scores = [code.score for code in typed_codes("SKU: KX-0011-B blue")]
    assert scores == sorted(scores, reverse=True)
    assert (scores[0], scores[-1]) == (WHOLE, INSIDE)
    assert typed_codes("  ") == []


@given(st.text(max_size=80))
def test_any_text_can_be_read(text: str) -> None:
    assert code_key(code_key(text)) == code_key(text)
    assert all(code.text for code in typed_codes(text))


def test_a_very_long_query_is_not_read_to_its_end() -> None:
    assert len(typed_codes("a1b2c3 " * 10_000)) <= 2 + 4 * MOST_WORDS
