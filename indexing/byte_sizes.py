"""Amounts of memory as people write them."""

from __future__ import annotations

import re

from retrieval.errors import BadConfig

_UNITS = {"": 1, "B": 1} | {
    f"{letter}{mark}": base**power
    for power, letter in enumerate("KMGT", 1)
    for mark, base in (("B", 1000), ("iB", 1024), ("", 1024))
}
_BY_UNIT = {unit.lower(): size for unit, size in _UNITS.items()}
_AMOUNT = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([A-Za-z]*)\s*")


def bytes_of(text: str) -> int:
    """Bytes of an amount such as 4GiB, 500MB or 1000000; BadConfig for anything else.

    >>> bytes_of("4GiB"), bytes_of("1.5 kb"), bytes_of("10")
    (4294967296, 1500, 10)
    """
    found = _AMOUNT.fullmatch(text)
    size = round(float(found[1]) * _BY_UNIT.get(found[2].lower(), 0)) if found else 0
    if size <= 0:
        raise BadConfig(f"memory {text!r} is no amount of memory; write it as 4GiB, 500MB or a number of bytes")
    return size


def size_of(amount: int) -> str:
    """Bytes as a person reads them.

    >>> size_of(512), size_of(1_500_000), size_of(4 * 1024**3)
    ('512 B', '1.5 MB', '4.3 GB')
    """
    for unit, size in (("GB", 10**9), ("MB", 10**6), ("kB", 1000)):
        if amount >= size:
            return f"{amount / size:.1f} {unit}"
    return f"{amount} B"
