"""Filters as text: `price < 20 and brand in (Acme, "Big Co") or on_sale = true`.

    filter    = group { "or" group }
    group     = part { "and" part }
    part      = condition | "(" filter ")"
    condition = column ( "=" | "!=" | "<" | "<=" | ">" | ">=" ) value
              | column [ "not" ] "in" "(" [ value { "," value } ] ")", or with square brackets
    value     = number | "true" | "false" | text

A column and a text are a bare word, or anything in single or double quotes, where a backslash keeps the character that
follows it. A bare word has no space, quote, comma, bracket or sign of comparison, and is none of the words above.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import NamedTuple, TypeAlias

from retrieval.errors import BadRequest

Condition: TypeAlias = tuple[str, str, object]  # column, operator, value; of `in` and `not in` a list of values
Lists: TypeAlias = list[list[Condition]]  # any of lists of conditions that all hold

MAX_LISTS = 256  # of "or" inside "and", multiplied out
KEYWORDS = ("and", "or", "in", "not", "true", "false", "null")
COMPARISONS = ("=", "==", "!=", "<", "<=", ">", ">=")
TOKEN = re.compile(
    r"""(?P<space>\s+) | (?P<quoted>"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*') | (?P<sign><=|>=|!=|==|[=<>(),[\]])"""
    r"""| (?P<word>[^\s"'=<>!(),[\]]+)""",
    re.VERBOSE | re.DOTALL,
)
NUMBER = re.compile(r"-?(0|[1-9]\d*)(\.\d+)?([eE][+-]?\d+)?", re.ASCII)


class Token(NamedTuple):
    """A piece of the text. `kind` is "word", "quoted", "sign", "end", or "keyword" for a bare word of the grammar."""

    kind: str
    text: str
    at: int  # counted from 0


def parse_text(text: str) -> Lists:
    """The lists that a text stands for. Raises BadRequest that says where it went wrong, and what would be right.

    >>> parse_text('price < 20 and brand in (Acme, "Big Co") or on_sale = true')
    [[('price', '<', 20), ('brand', 'in', ['Acme', 'Big Co'])], [('on_sale', '=', True)]]
    """
    parser = _Parser(text)
    found = parser.filter()
    if parser.token.kind != "end":
        raise parser.error('"and", "or" or the end')
    return found


def text_of(lists: Sequence[Sequence[Condition]]) -> str:
    """The text of lists whose values are texts, numbers and truth values.

    >>> text_of([[("price", "<", 20), ("brand", "in", ["Acme", "Big Co"])], [("on_sale", "=", True)]])
    'price < 20 and brand in ("Acme", "Big Co") or on_sale = true'
    """
    return " or ".join(" and ".join(map(_condition_text, conditions)) for conditions in lists)


def both(left: Lists, right: Lists) -> Lists:
    """What passes two filters. Raises BadRequest where that would be more than MAX_LISTS lists."""
    if len(left) * len(right) > MAX_LISTS:
        raise BadRequest(
            f'filters: "or" within "and" makes {len(left) * len(right)} cases of it, more than {MAX_LISTS}; '
            "write COLUMN in (VALUE, VALUE) where one column has several values"
        )
    return [[*one, *other] for one in left for other in right]


def _tokens(text: str) -> list[Token]:
    found, at = list[Token](), 0
    while at < len(text):
        match = TOKEN.match(text, at)
        if match is None:
            wrong = "a quote that is not closed" if text[at] in "\"'" else repr(text[at])
            raise _error(text, at, wrong, "a column, a sign of comparison or a value")
        kind, word = str(match.lastgroup), match.group()
        if kind != "space":
            found.append(Token("keyword" if kind == "word" and word.lower() in KEYWORDS else kind, word, at))
        at = match.end()
    return [*found, Token("end", "the end", len(text))]


def _error(text: str, at: int, found: str, wanted: str) -> BadRequest:
    return BadRequest(f"filter {text}: at character {at + 1} is {found}; expected {wanted}")


class _Parser:
    def __init__(self, text: str) -> None:
        self.text, self.tokens, self.next = text, _tokens(text), 0

    @property
    def token(self) -> Token:
        return self.tokens[self.next]

    def filter(self) -> Lists:
        found = self.group()
        while self.took("or"):
            found = [*found, *self.group()]
        return found

    def group(self) -> Lists:
        found = self.part()
        while self.took("and"):
            found = both(found, self.part())
        return found

    def part(self) -> Lists:
        if not self.took("("):
            return [[self.condition()]]
        found = self.filter()
        self.require(")", '")", "and" or "or"')
        return found

    def condition(self) -> Condition:
        column = self.quoted_or_word("a column; put it in quotes if it is a word such as and, or, in")
        if self.took("not"):
            self.require("in", '"in" after "not"')
            return column, "not in", self.values()
        if self.took("in"):
            return column, "in", self.values()
        sign = self.token
        if sign.kind != "sign" or sign.text not in COMPARISONS:
            raise self.error(f"one of {' '.join(COMPARISONS)} or in, after the column {column}")
        self.next += 1
        return column, "=" if sign.text == "==" else sign.text, self.value()

    def values(self) -> list[object]:
        closing = "]" if self.took("[") else ")"
        if closing == ")":
            self.require("(", '"(" and values with commas between them')
        found: list[object] = []
        while not self.took(closing):
            if found:
                self.require(",", f'"," or "{closing}"')
            found.append(self.value())
        return found

    def value(self) -> object:
        token = self.token
        if token.kind == "keyword" and token.text.lower() in ("true", "false"):
            self.next += 1
            return token.text.lower() == "true"
        text = self.quoted_or_word("a value; put it in quotes if it is a text such as and, in, null")
        return json.loads(text) if token.kind == "word" and NUMBER.fullmatch(text) else text

    def quoted_or_word(self, wanted: str) -> str:
        token = self.token
        if token.kind not in ("word", "quoted"):
            raise self.error(wanted)
        self.next += 1
        return token.text if token.kind == "word" else re.sub(r"\\(.)", r"\1", token.text[1:-1], flags=re.DOTALL)

    def took(self, text: str) -> bool:
        """Goes over a word or a sign of the grammar, where it is next."""
        found = self.token.kind in ("keyword", "sign") and self.token.text.lower() == text
        self.next += found
        return found

    def require(self, text: str, wanted: str) -> None:
        if not self.took(text):
            raise self.error(wanted)

    def error(self, wanted: str) -> BadRequest:
        return _error(self.text, self.token.at, self.token.text, wanted)


def _condition_text(condition: Condition) -> str:
    column, operator, value = condition
    bare = TOKEN.fullmatch(column)
    name = column if bare and bare.lastgroup == "word" and column.lower() not in KEYWORDS else _quoted(column)
    values = f"({', '.join(map(_value_text, value))})" if isinstance(value, list | tuple) else _value_text(value)
    return f"{name} {operator} {values}"


def _value_text(value: object) -> str:
    return json.dumps(value) if isinstance(value, bool | int | float) else _quoted(str(value))


def _quoted(text: str) -> str:
    return '"' + re.sub(r'(["\\])', r"\\\1", text) + '"'
