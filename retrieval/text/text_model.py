"""Which pretrained text model a catalogue is read by: an English one for English titles and for titles without text, of
which a larger model would make no more, else a multilingual one."""

from __future__ import annotations

from typing import NamedTuple

from retrieval.settings import AUTO, MULTILINGUAL, PRETRAINED, RetrievalConfig
from retrieval.text.analysis import Language


class TextModel(NamedTuple):
    """A model's name, and why it was chosen."""

    model: str
    why: str

    def __str__(self) -> str:
        return f"{self.model}, {self.why}"


def text_model_for(wanted: str, language: Language) -> TextModel:
    """The text model to start from where the setting is `wanted`, for a catalogue in a language.

    >>> text_model_for("auto", Language("zh", "of the sign")).model
    'intfloat/multilingual-e5-small'
    """
    if wanted != AUTO:
        return TextModel(wanted, "as the settings say")
    if not language.has_text:
        return TextModel(PRETRAINED, "for titles without words")
    return TextModel(PRETRAINED if language.code == "en" else MULTILINGUAL, f"for the language {language.code}")


def with_text_model(config: RetrievalConfig, chosen: TextModel) -> RetrievalConfig:
    """The settings with the name of the chosen model."""
    return config.model_copy(update={"text": config.text.model_copy(update={"model": chosen.model})})
