"""The texts of each language: `en.toml`, `zh.toml`.

What this package says has a key in every language's file, with the same `{placeholders}`; to add a text is to add a
line to each. Sentences that other packages make in English (why a data set was split so, what a feature is) are keyed
by that English, as gettext has it, in the table `sentences` of every other language.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Mapping
from functools import cache
from importlib import resources
from types import MappingProxyType
from typing import Literal, get_args

from retrieval.errors import BadRequest

__all__ = [
    "LANGUAGES",
    "SENTENCES",
    "Language",
    "catalogue",
    "fallback_text",
    "placeholders",
    "retold",
    "text",
    "text_or",
]

Language = Literal["en", "zh"]
LANGUAGES: tuple[Language, ...] = get_args(Language)
SENTENCES = "sentences"  # the table of English sentences
PLACEHOLDER = re.compile(r"\{(\w+)(?::[^}]*)?\}")


@cache
def catalogue(language: str) -> Mapping[str, Mapping[str, str]]:
    """All texts of a language: table, then key, to text. Raises BadRequest for a language that has none."""
    if language not in LANGUAGES:
        raise BadRequest(f"there are no texts in the language {language!r:.40}; give one of: {', '.join(LANGUAGES)}")
    file = resources.files("serving.texts").joinpath(f"{language}.toml")
    return MappingProxyType(tomllib.loads(file.read_text("utf-8")))


def text(key: str, language: str = "en", /, **values: object) -> str:
    """The text of a key, `table.name`, with values for its placeholders. Raises KeyError for an unknown key.

    >>> text("fact.cores", "zh", machine="x86_64", n=2)
    'x86_64，2 核'
    """
    table, _, name = key.partition(".")
    return catalogue(language)[table][name].format(**values)


def text_or(key: str, default: str, language: str = "en", /) -> str:
    """The text of a key, or `default` where there is none: for names that other packages may add to."""
    table, _, name = key.partition(".")
    return catalogue(language)[table].get(name, default)


def fallback_text(code: str, language: str = "en") -> str:
    """What a shopper may be told of one of an answer's `fallbacks`; an unknown code is returned as it is.

    >>> fallback_text("the query alone", "zh")
    '只按搜索词查找：没有这位顾客的记录'
    """
    known = catalogue(language)["fallback"]
    head, bracket, detail = code.partition(" (")
    if code in known or head not in known or not bracket:
        return known.get(code, code)
    return text("note.detail", language, text=known[head], detail=detail.removesuffix(")"))


def retold(sentence: str, language: str = "en") -> str:
    """An English sentence of another package in a language; one that the catalogue does not have stays English.

    >>> retold("split of judgements: queries by the judgements' own split column; queries: train 3, test 4", "zh")
    '评分的划分：按评分自带的 split 列。'
    """
    for pattern, told in _patterns(language):
        if found := pattern.fullmatch(sentence):
            parts = {name: text_or(f"stage.{part}", "", language) for name, part in found.groupdict().items()}
            return told.format(
                **{name: parts[name] or retold(part, language) for name, part in found.groupdict().items()}
            )
    return sentence


def placeholders(template: str) -> list[str]:
    """The names in braces, in their order.

    >>> placeholders("{n:,} of {all}")
    ['n', 'all']
    """
    return PLACEHOLDER.findall(template)


@cache
def _patterns(language: str) -> tuple[tuple[re.Pattern[str], str], ...]:
    return tuple(_compiled(catalogue(language).get(SENTENCES, {})))


def _compiled(sentences: Mapping[str, str]) -> Iterator[tuple[re.Pattern[str], str]]:
    for english, told in sentences.items():
        fixed = re.split(r"\{(\w+)\}", english)  # text, name, text, name, ..., text
        parts = (f"(?P<{part}>.*?)" if place % 2 else re.escape(part) for place, part in enumerate(fixed))
        yield re.compile("".join(parts)), told
