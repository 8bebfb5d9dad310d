"""How each language makes titles, descriptions and queries of the words of an item, and which typos it knows."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Protocol

import numpy as np

from retrieval.sample_shop.vocabulary import ItemWords, Language
from retrieval.text.typos import misspelt

__all__ = ["PHRASES", "Chinese", "English", "Phrases"]

# signs that a Chinese keyboard offers for the same sound
SAME_SOUND = dict(
    zip(
        "帐篷袋炉壶锅刀垫椅桌灯键鞋袜杯瓶漆头镜狗粮砂棒笔皂霜巾浴洗护素蛋白啡豆茶面油酱醋纸液剪铲籽管雾灰橙红蓝防轻升厘毫克包罐盒盆窝绳具机钻",
        "账蓬带卢湖郭到店以捉登件协瓦背平七投静够凉沙磅比造双今预喜户速旦百菲斗查棉由将促只夜减产子馆物辉成洪兰房青生离豪课苞灌合喷蜗生据鸡赚",
        strict=True,
    )
)


class Phrases(Protocol):
    """What a language makes of the words of an item."""

    def title(self, item: ItemWords) -> str:
        """The title of an item, which begins with its brand."""
        ...

    def description(self, item: ItemWords) -> str:
        """Two sentences about both traits of an item."""
        ...

    def query(self, rng: np.random.Generator, noun: str, named: Mapping[str, str]) -> str:
        """A query for a noun, of which the attributes `named` (brand, trait, size, look) are wanted."""
        ...

    def misspelt(self, query: str, rng: np.random.Generator) -> str:
        """The query with a typo; never unchanged."""
        ...


class English:
    """Words between spaces; attributes before the noun but for those with a preposition."""

    def title(self, item: ItemWords) -> str:
        """Brand, series and product in capitals, then size and look."""
        return f"{item.brand} {item.series} {_headline(described(item.noun, item.trait))} {item.size}, {item.look}"

    def description(self, item: ItemWords) -> str:
        """What the first trait does, then the second and what it does."""
        first, second = item.shelf.traits[item.trait], item.shelf.traits[item.second_trait]
        return f"{_capital(first)}. {_capital(item.second_trait)}: {second}."

    def query(self, rng: np.random.Generator, noun: str, named: Mapping[str, str]) -> str:
        """Lower case, in the order of a title; `rng` is not used."""
        product = described(noun, named["trait"]) if "trait" in named else noun
        parts = [named.get("brand", ""), product, named.get("size", ""), named.get("look", "")]
        return " ".join(part for part in parts if part).lower()

    def misspelt(self, query: str, rng: np.random.Generator) -> str:
        """One letter of one word dropped, doubled, swapped or mistyped."""
        return misspelt(query, rng, always=True)


class Chinese:
    """No spaces within a phrase; attributes stand before the noun."""

    def title(self, item: ItemWords) -> str:
        """Brand, series, product, size and look between spaces."""
        return f"{item.brand} {item.series}系列 {item.trait}{item.noun} {item.size} {item.look}"

    def description(self, item: ItemWords) -> str:
        """What the first trait does, then the second and what it does."""
        first, second = item.shelf.traits[item.trait], item.shelf.traits[item.second_trait]
        return f"{first}。{item.second_trait}：{second}。"

    def query(self, rng: np.random.Generator, noun: str, named: Mapping[str, str]) -> str:
        """Every second query without spaces, the others with spaces between phrases."""
        parts = [named.get("brand", ""), named.get("trait", "") + noun, named.get("size", ""), named.get("look", "")]
        return ("" if rng.random() < 0.5 else " ").join(part for part in parts if part)

    def misspelt(self, query: str, rng: np.random.Generator) -> str:
        """A sign for another of the same sound, or one sign left out where none has another.

        >>> Chinese().misspelt("猫砂", np.random.default_rng(0))
        '猫沙'
        """
        places = [place for place, sign in enumerate(query) if sign in SAME_SOUND]
        if places:
            at = int(rng.choice(places))
            return query[:at] + SAME_SOUND[query[at]] + query[at + 1 :]
        at = int(rng.integers(1, len(query)))
        return " ".join((query[:at] + query[at + 1 :]).split())


PHRASES: Mapping[Language, Phrases] = MappingProxyType({"en": English(), "zh": Chinese()})


def described(noun: str, *traits: str) -> str:
    """A noun with its traits before or after it, as English has them.

    >>> described("writing desk", "narrow", "with drawers")
    'narrow writing desk with drawers'
    """
    behind = [trait for trait in traits if trait.startswith(("with ", "for "))]
    return " ".join([*(trait for trait in traits if trait not in behind), noun, *behind])


def _headline(text: str) -> str:
    return " ".join(word if word in {"with", "for"} else word[:1].upper() + word[1:] for word in text.split())


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
