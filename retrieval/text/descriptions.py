"""Sentences of descriptions, and those that so many items share that they tell nothing of any of them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Set
from itertools import islice

import numpy as np
import pyarrow as pa

SHARED = 0.1  # share of the catalogue with a sentence from which it is boilerplate
FEWEST = 5  # items with it, at least
SHORTEST = 12  # signs of a sentence that may be boilerplate; SHORTEST_UNSPACED in scripts without blanks
SHORTEST_UNSPACED = 6
BOILERPLATE = b"shortlist.boilerplate"  # key of the metadata of an items table, a JSON list
_ENDS = re.compile(r"[\r\n\u2028\u2029]+|(?<=[.!?…])\s+|(?<=[。！？｡])\s*|\s*[•·●▪■◆✓✔]\s*")
_EDGES = re.compile(r"^\W+|\W+$")


def sentences(text: str) -> list[str]:
    """The sentences of a description: parts that end with a full stop and the like, at a line end, or before a bullet.

    >>> sentences("Holds 1.5 l. Dishwasher safe!\\n• Free shipping")
    ['Holds 1.5 l.', 'Dishwasher safe!', 'Free shipping']
    """
    return [part for part in _ENDS.split(text) if part and not part.isspace()]


def shared_sentences(descriptions: Iterable[str | None]) -> tuple[str, ...]:
    """The sentences, without case and punctuation at the ends, that a tenth of the items have, sorted.

    They do not depend on the order of the items. A sentence counts once an item; short ones, and those of fewer than
    FEWEST items, are never boilerplate.
    """
    texts = list(descriptions)
    least = max(FEWEST, SHARED * len(texts))
    parts = [np.fromiter(map(hash, _forms(text)), np.int64) for text in texts if text]
    if not parts:
        return ()
    hashes, counts = np.unique(np.concatenate(parts), return_counts=True)
    frequent = set(hashes[counts >= least].tolist())
    if not frequent:
        return ()
    found: dict[str, int] = {}
    for text in texts:
        for form in _forms(text or ""):
            if hash(form) in frequent:
                found[form] = found.get(form, 0) + 1
    return tuple(sorted(form for form, n in found.items() if n >= least))


def without_shared(text: str, shared: Set[str]) -> str:
    """A description without the sentences whose forms are in `shared`; unchanged where it has none of them."""
    if not shared:
        return text
    parts = sentences(text)
    kept = [part for part in parts if _form(part) not in shared]
    return text if len(kept) == len(parts) else "\n".join(kept)


def with_boilerplate(items: pa.Table) -> pa.Table:
    """An items table that carries, in its schema's metadata, the sentences that its descriptions share."""
    found: tuple[str, ...] = ()
    if "description" in items.column_names:
        found = shared_sentences(items["description"].to_pylist())
    others = {key: value for key, value in (items.schema.metadata or {}).items() if key != BOILERPLATE}
    recorded = {BOILERPLATE: json.dumps(found, ensure_ascii=False).encode()} if found else {}
    return items.replace_schema_metadata(others | recorded)


def boilerplate_of(items: pa.Table) -> frozenset[str]:
    """The shared sentences that `with_boilerplate` recorded with a table; a slice or a selection of it has them too."""
    recorded = (items.schema.metadata or {}).get(BOILERPLATE)
    return frozenset() if recorded is None else frozenset(json.loads(recorded))


def _forms(text: str) -> set[str]:
    """The forms of the sentences of a description that may be boilerplate."""
    return {form for form in map(_form, sentences(text)) if _tells(form)}


def _form(sentence: str) -> str:
    return _EDGES.sub("", " ".join(sentence.split()).casefold())


def _tells(form: str) -> bool:
    """Whether a form is long enough to be a sentence rather than an abbreviation or a name."""
    if " " in form:
        return len(form) >= SHORTEST
    return len(form) >= SHORTEST_UNSPACED and _unspaced(form)


def _unspaced(form: str) -> bool:
    return any(ord(sign) >= 0x0E00 for sign in islice(form, SHORTEST))
