"""HTML in text: tags out, entities read, so that markup is never a word."""

from __future__ import annotations

import html
import re

_JOINED = "abbr acronym b big em font i ins mark s small strong sub sup tt u wbr"  # their text goes on in the same word
_SPACED = (
    "a area audio bdi bdo button canvas caption cite code col data datalist del dfn embed iframe img input kbd label "
    "link map meta meter object option output param picture progress q samp select source span svg td textarea th time "
    "title track var video center strike path"
)
_BLOCKS = (
    "address article aside base blockquote body br colgroup dd details dialog div dl dt fieldset figcaption figure "
    "footer form h1 h2 h3 h4 h5 h6 head header hr html legend li main menu nav noscript ol optgroup p pre section "
    "summary table tbody template tfoot thead tr ul"
)
_KNOWN = "|".join(sorted([*_JOINED.split(), *_SPACED.split(), *_BLOCKS.split()], key=len, reverse=True))
_VALUE = r"""=\s*(?:"[^"]*"|'[^']*'|[^\s"'<>=]+)"""
_BARE = "allowfullscreen|async|autoplay|checked|controls|defer|disabled|hidden|loop|muted|nowrap|readonly|selected"
_ATTRIBUTES = rf"(?:\s+(?:[\w:.-]+\s*{_VALUE}|(?:{_BARE})\b))"
# A tag is one that is closed, one with attributes, or one of HTML's own: "<3 inches", "a < b" and "<large>" are none.
_TAG = re.compile(
    rf"<(?:/\s*(?P<closing>[a-z][\w:-]*)\s*|(?P<given>[a-z][\w:-]*){_ATTRIBUTES}+\s*/?"
    rf"|(?P<bare>{_KNOWN}|[a-z]\w*:[a-z]\w*)\s*/?)>",
    re.IGNORECASE,
)
_HIDDEN = re.compile(
    r"<(script|style)\b[^<>]*>.*?</\1\s*>|<!--.*?-->|<!\[CDATA\[|\]\]>|<![a-z][^<>]*>|<\?[a-z][^<>]*>",
    re.IGNORECASE | re.DOTALL,
)
_CUT = re.compile(
    rf"<(?:/?(?:{_KNOWN})|[a-z][\w:-]*\s[^<>=]*=[^<>]*|!--[^<>]*)$", re.IGNORECASE
)  # by a limit of an export
_NAME = r"(?:#\d{1,7}|#x[0-9a-f]{1,6}|[a-z][a-z0-9]{1,31});"
_ENTITY = re.compile(rf"&(?:amp;)*({_NAME})", re.IGNORECASE)  # escaped any number of times
_JOINS, _BREAKS = frozenset(_JOINED.split()), frozenset(_BLOCKS.split())


def without_markup(text: str) -> str:
    """`text` without HTML's tags, comments, scripts and styles, its entities as the characters that they stand for.

    A tag of a block becomes a line end, others a blank; those that format letters become nothing. What was escaped
    twice is read twice, so that the result has no markup left: it is returned unchanged if given again.

    >>> without_markup("<p>Tea &amp; <b>cof</b>fee</p>"), without_markup("&lt;br/&gt;caf&eacute; 1&frac12;")
    ('\\nTea & coffee\\n', '\\ncafé 1½')
    >>> without_markup("<3 inches, a < b, x<y> & AT&T")
    '<3 inches, a < b, x<y> & AT&T'
    """
    while "<" in text or "&" in text:
        plain = _CUT.sub("", _TAG.sub(_space_of, _HIDDEN.sub(" ", text)))
        plain = _ENTITY.sub(lambda entity: html.unescape(f"&{entity[1]}"), plain)
        if plain == text:
            break
        text = plain
    return text


def _space_of(tag: re.Match[str]) -> str:
    """What a tag leaves between the texts on both sides."""
    name = (tag["closing"] or tag["given"] or tag["bare"]).lower()
    return "" if name in _JOINS else "\n" if name in _BREAKS else " "
