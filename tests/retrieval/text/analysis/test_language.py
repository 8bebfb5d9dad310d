"""The language of a catalogue, told from its titles."""

from __future__ import annotations

import pytest

from retrieval.text.analysis import NONE, language_of

TITLES = {
    "en": ("Women's waterproof rain jacket", "Coffee maker with grinder", "Stainless steel cookware set"),
    "de": ("Damen Regenjacke wasserdicht", "Kaffeemaschine mit Mahlwerk", "Bettwäsche aus Baumwolle"),
    "fr": ("Veste imperméable femme", "Machine à café avec broyeur", "Housse de couette en coton"),
    "es": ("Chaqueta impermeable mujer", "Cafetera con molinillo", "Juego de ollas de acero inoxidable"),
    "it": ("Giacca impermeabile donna", "Macchina da caffè con macinino", "Lampada da scrivania"),
    "nl": ("Dames regenjas waterdicht", "Koffiezetapparaat met molen", "Kinderfietshelm blauw"),
    "pt": ("Jaqueta impermeável feminina", "Cafeteira com moedor", "Jogo de panelas inox"),
    "ru": ("Женская куртка", "Мужские кроссовки", "Кофемашина с кофемолкой"),
    "zh": ("红色连衣裙夏季新款", "蓝色牛仔裤男士", "咖啡机家用小型"),
    "ja": ("レディース レインジャケット", "USBケーブル", "コーヒーメーカー 保温"),
    "ko": ("여성 방수 재킷", "남성 운동화", "커피 머신"),
    "th": ("เครื่องชงกาแฟ", "เสื้อกันฝนผู้หญิง", "รองเท้าผ้าใบผู้ชาย"),
    "ar": ("سترة نسائية مقاومة للماء", "حذاء رجالي أسود", "آلة صنع القهوة"),
    "he": ("מעיל גשם לנשים", "נעלי ספורט לגברים", "מכונת קפה"),
    "hi": ("महिलाओं के लिए रेनकोट", "पुरुषों के जूते", "कॉफी मशीन"),
}


@pytest.mark.parametrize("code", TITLES)
def test_the_language_of_titles_is_told(code: str) -> None:
    found = language_of(TITLES[code] * 5)
    assert found.code == code
    assert "samples of the titles" in found.why


def test_titles_in_capitals_are_told_as_well() -> None:
    assert language_of([title.upper() for title in TITLES["de"]]).code == "de"


@pytest.mark.parametrize("titles", [[], [None, ""], ["KX-0011-B", "A4-220"], ["12", "13"]])
def test_too_few_letters_tell_nothing(titles: list[str | None]) -> None:
    found = language_of(titles)
    assert found.code == NONE
    assert "data.language" in found.why


def test_a_catalogue_of_two_languages_has_none() -> None:
    found = language_of([*TITLES["de"] * 20, *TITLES["fr"] * 20])
    assert found.code == NONE
    assert "de" in found.why
    assert "fr" in found.why
