"""The text model follows the language of the catalogue."""

from __future__ import annotations

import pytest

from retrieval.settings import AUTO, MULTILINGUAL, PRETRAINED, RetrievalConfig
from retrieval.text.analysis import Language, language_of
from retrieval.text.text_model import text_model_for, with_text_model


@pytest.mark.parametrize(
    ("titles", "model"),
    [
        (["Cordless drill 18 V with case", "Stainless steel mug for coffee and tea, set of 6"], PRETRAINED),
        (["Akku-Bohrschrauber mit Koffer und Ladegerät"], MULTILINGUAL),
        (["Aspirateur sans sac pour la maison, rouge"], MULTILINGUAL),
        (["Taladro de mano con cable", "Silla de oficina para el escritorio"], MULTILINGUAL),
        (["红色连衣裙夏季新款", "蓝色牛仔裤男士"], MULTILINGUAL),
        (["Дрель аккумуляторная для дома"], MULTILINGUAL),
        (["เครื่องชงกาแฟ", "กาแฟคั่วบด"], MULTILINGUAL),
    ],
)
def test_english_titles_have_a_model_of_their_own(titles: list[str], model: str) -> None:
    found = text_model_for(AUTO, language_of(titles))
    assert found.model == model
    assert language_of(titles).code in str(found)


def test_titles_that_are_ids_have_the_smaller_model() -> None:
    assert text_model_for(AUTO, language_of(["100234", "KX-0011", "77"])) == (PRETRAINED, "for titles without words")


def test_a_model_that_is_set_is_taken_in_any_language() -> None:
    found = text_model_for("someone/model", Language("zh", "told"))
    assert str(found) == "someone/model, as the settings say"


def test_the_settings_take_the_models_name() -> None:
    chosen = text_model_for(AUTO, Language("zh", "told"))
    assert with_text_model(RetrievalConfig(), chosen).text.model == MULTILINGUAL
