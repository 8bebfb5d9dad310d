"""Validation rules for columns: which rows of a batch are set aside, and which values are left out or cleaned."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from retrieval.data.audit import Bools, Screen
from retrieval.data.check_report import CLEANED
from retrieval.data.schema import list_like
from retrieval.data.time_units import SECOND
from retrieval.text.markup import without_markup

TEXT_BYTES = 100_000  # longest text that is accepted
LARGEST = float(np.finfo(np.float32).max)  # larger numbers count as infinite
EARLIEST = 631_152_000  # 1990-01-01, in seconds since 1970
VISIBLE = r"[^\pZ\pC]"  # a character that is neither space, control nor format character
# control characters that text never has; tabs, line ends and remains of a wrong encoding are only blanked
BINARY_CONTROLS = r"[\x00-\x08\x0e-\x1f\x7f]"
CONTROLS = r"[\x00-\x1f\x7f-\x{9f}]"


def screen_ids(screen: Screen, name: str) -> pa.Array:
    """A required column of ids as strings, unchanged; rows without an id are set aside."""
    ids = screen.column(name).cast(pa.string())
    blank = pc.fill_null(pc.equal(pc.binary_length(pc.utf8_trim_whitespace(ids)), 0), True)
    screen.drop(f"{name} null or empty", as_mask(blank), name)
    return ids


def repeats(screen: Screen, keys: Sequence[Hashable], seen: set[Hashable]) -> Bools:
    """Mask of the kept rows whose key an earlier row has, bool [n]; `seen` collects the keys over all batches."""
    repeated = np.zeros(screen.n, bool)
    for row in np.flatnonzero(~screen.dropped).tolist():
        repeated[row] = keys[row] in seen
        seen.add(keys[row])
    return repeated


def screen_text(screen: Screen, name: str) -> pa.Array:
    """A required column of text with blanks for control characters; rows without usable text are set aside.

    Markup is taken out first. Unusable is null, only white space and control characters, or more than 100,000 bytes.
    Text with characters of binary data (NUL, ESC and the like) is counted as bad, but used once they are blanked.
    """
    text = screen_markup(screen, name)
    visible = pc.fill_null(pc.match_substring_regex(text, VISIBLE), False)
    screen.drop(f"{name} null or blank", ~as_mask(visible), name)
    long = pc.fill_null(pc.greater(pc.binary_length(text), TEXT_BYTES), False)
    screen.drop(f"{name} of more than {TEXT_BYTES:,} bytes", as_mask(long), name)
    binary = pc.fill_null(pc.match_substring_regex(text, BINARY_CONTROLS), False)
    screen.repair(f"{name} with control characters", as_mask(binary), name, CLEANED)
    return blank_controls(text)


def screen_markup(screen: Screen, name: str) -> pa.Array:
    """A column of `string` or `list<string>` without HTML's tags and with its entities read; the rows are counted."""
    column = screen.column(name)
    if pa.types.is_list(column.type):
        values, changed = _without_markup(pc.list_flatten(column))
        if not changed.any():
            return column
        owners = pc.list_parent_indices(column).to_numpy(zero_copy_only=False)
        changed = np.bincount(owners[changed], minlength=screen.n) > 0
        plain = list_like(column, values)
    else:
        plain, changed = _without_markup(column)
    screen.remark(f"{name} with HTML", changed, name, "tags taken out, entities read")
    return plain


def _without_markup(column: pa.Array) -> tuple[pa.Array, Bools]:
    """A column of text without markup, and the mask of the rows that had any, bool [n]."""
    changed = np.zeros(len(column), bool)
    maybe = np.flatnonzero(as_mask(pc.fill_null(pc.match_substring_regex(column, "[<&]"), False)))
    if not len(maybe):
        return column, changed
    texts = column.take(pa.array(maybe)).to_pylist()
    plain = list(map(without_markup, texts))
    changed[maybe] = [before != after for before, after in zip(texts, plain, strict=True)]
    mask = np.zeros(len(column), bool)
    mask[maybe] = True
    return pc.replace_with_mask(column, pa.array(mask), pa.array(plain, pa.string())), changed


def screen_amount(screen: Screen, name: str, *, signless: Bools | None = None) -> NDArray[np.float64]:
    """An optional column of amounts, float64 [n], NaN where there is none; negative and infinite ones are left out.

    In the rows of the mask `signless`, bool [n], the sign is dropped, because returns may have negative quantities.
    """
    values, null = numbers(screen.column(name))
    if signless is not None:
        values = np.where(signless, np.abs(values), values)
    bad = ~null & ~((values >= 0) & (values <= LARGEST))
    screen.repair(f"{name} negative, infinite or not a number", bad, name)
    return np.where(bad, np.nan, values)


def earliest_plausible(columns: Iterable[pa.Array]) -> int:
    """The earliest plausible time of a file, in seconds since 1970, from its column of times batch by batch.

    1990, because earlier dates are usually failed conversions; or 1970 where most times lie before 1990, because they
    are then positions rather than dates.
    """
    early = known = 0
    for column in columns:
        values, per_second = _ticks(column)
        present = ~as_mask(column.is_null())
        known += int(present.sum())
        early += int((present & (values < EARLIEST * per_second)).sum())
    return 0 if early * 2 > known else EARLIEST


def screen_times(screen: Screen, name: str, first: int, latest: int) -> NDArray[np.int64]:
    """A required column of times as microseconds since 1970, int64 [n]; times without a zone are taken as UTC.

    Rows whose time is null, before `first` (seconds) or after `latest` (microseconds) are set aside; their value is 0.
    """
    column = screen.column(name)
    null = as_mask(column.is_null())
    values, per_second = _ticks(column)
    early, late = first * per_second, latest * per_second // SECOND
    screen.drop(f"{name} null", null, name)
    screen.drop(f"{name} before {1990 if first else 1970}", values < early, name)
    screen.drop(f"{name} in the future", values > late, name)
    inside = np.where(screen.dropped | null, 0, values)
    return inside * (SECOND // per_second) if per_second <= SECOND else inside // (per_second // SECOND)


def _ticks(column: pa.Array) -> tuple[NDArray[np.int64], int]:
    """Times in the column's own unit, int64 [n], 0 for null, and units per second; dates are converted to seconds."""
    if pa.types.is_date32(column.type):
        days = column.cast(pa.int32()).fill_null(0).to_numpy(zero_copy_only=False)
        return days.astype(np.int64) * 86_400, 1
    unit = "ms" if pa.types.is_date64(column.type) else column.type.unit
    per_second = {"s": 1, "ms": 1_000, "us": SECOND, "ns": 1_000 * SECOND}[unit]
    return column.cast(pa.int64()).fill_null(0).to_numpy(zero_copy_only=False), per_second


def numbers(column: pa.Array) -> tuple[NDArray[np.float64], Bools]:
    """A column of numbers as float64 [n], NaN for null, and the mask of its nulls, bool [n]."""
    return column.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False), as_mask(column.is_null())


def as_mask(column: pa.Array) -> Bools:
    """A bool column without nulls as numpy."""
    return np.asarray(column.to_numpy(zero_copy_only=False), bool)


def blank_controls(column: pa.Array) -> pa.Array:
    """A column of `string` or `list<string>` with a blank for every control character."""
    if pa.types.is_list(column.type):
        return list_like(column, pc.replace_substring_regex(pc.list_flatten(column), CONTROLS, " "))
    return pc.replace_substring_regex(column, CONTROLS, " ")
