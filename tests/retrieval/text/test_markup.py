"""Markup is never a word, and what only looks like it stays."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from retrieval.text.markup import without_markup

TAKEN_OUT = {
    "<p>Tea</p>": "Tea",
    "<P CLASS='x'>Tea</P>": "Tea",
    "red<br>mug": "red mug",
    "red<br/>mug": "red mug",
    "<b>cof</b>fee": "coffee",
    "m<sup>2</sup>": "m2",
    "<td>1</td><td>2</td>": "1 2",
    "<ul><li>a</li><li>b</li></ul>": "a b",
    '<a href="https://shop/x?a=1&amp;b=2" target=_blank>more</a>': "more",
    "<img src=x.png alt='a mug'/>mug": "mug",
    "<o:p></o:p>mug": "mug",
    '<my-widget data-x="1">mug</my-widget>': "mug",
    "<script>if (a < b) { x() }</script>mug": "mug",
    "<style type='text/css'>.a { color: red }</style>mug": "mug",
    "mug <!-- do not show --> blue": "mug blue",
    "<![CDATA[<p>mug</p>]]>": "mug",
    "<!DOCTYPE html><html><body>mug</body></html>": "mug",
    "caf&eacute;": "café",
    "caf&#233; &#xE9;": "café é",
    "Tea &amp; more": "Tea & more",
    "&lt;p&gt;Tea&lt;/p&gt;": "Tea",
    "&amp;lt;p&amp;gt;Tea": "Tea",
    "a&nbsp;b": "a b",
    "1&frac12; l": "1½ l",
    "cut off <p class=": "cut off",
    "cut off </p": "cut off",
    "<input disabled>mug": "mug",
}
STAYS = (
    "<3 inches", "a < b", "a<b and c>d", "x<y>", "<large>", "5 &lt", "AT&T", "R&D", "H&M;", "&unknown;", "I <3 mugs",
    "size < 5 cm > 3 cm", "->", "<->", "<>", "a <= b", "price<10 & stock>0", "红色<大号>连衣裙",
)  # fmt: skip


@pytest.mark.parametrize(("text", "plain"), TAKEN_OUT.items())
def test_tags_go_and_entities_are_read(text: str, plain: str) -> None:
    assert " ".join(without_markup(text).split()) == plain


@pytest.mark.parametrize("text", STAYS)
def test_what_only_looks_like_markup_stays(text: str) -> None:
    assert without_markup(text) == text


def test_blocks_end_lines() -> None:
    assert without_markup("One<p>Two</p><li>Three").split("\n") == ["One", "Two", "", "Three"]


@given(st.lists(st.sampled_from(["<", ">", "b", "/", "&", "amp;", "lt;", "gt;", " ", "=", "'", "p", "!--", "#60;"])))
def test_what_is_plain_stays_as_it_is(parts: list[str]) -> None:
    plain = without_markup("".join(parts))
    assert without_markup(plain) == plain


@pytest.mark.parametrize("text", ["<a " + "=" * 50_000, "&" + "amp;" * 20_000 + "lt;b>", "<" * 50_000, "<p " * 20_000])
def test_a_text_made_to_be_slow_is_read(text: str) -> None:
    assert len(without_markup(text)) <= len(text)
