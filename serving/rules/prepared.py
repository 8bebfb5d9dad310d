"""Rules over the items of one index version: which rows each names, and the values that it reads of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from indexing.version.filters import parse_filters
from indexing.version.index_version import IndexVersion
from retrieval.errors import BadRequest
from retrieval.topk import Mask, Rows
from serving.rules.load import Fault, RuleSet, closest
from serving.rules.schema import AnyRule, Boost, BoughtBefore, Cap, InStock, Pin

NOTHING: Rows = np.empty(0, np.int64)


class Prepared(NamedTuple):
    """A rule, and what it reads of the items by row.

    `mask` bool [size] are the items that it names, of `in_stock` those in stock. `rows` int64 are those it lists, in
    its order. `codes` int64 [size] number the values of a cap's column, -1: none. `numbers` float64 [size] are the
    values of a boost's column, or the days of `bought_before`; nan: unknown, or as requests say.
    """

    rule: AnyRule
    mask: Mask | None = None
    rows: Rows = NOTHING
    codes: NDArray[np.int64] | None = None
    numbers: NDArray[np.float64] | None = None

    @property
    def named(self) -> int | None:
        """How many items the rule is about; None: all may be."""
        return None if self.mask is None else int(self.mask.sum())


class _Wrong(Exception):
    """What does not fit the items, and at which key."""

    def __init__(self, key: str, message: str) -> None:
        self.key, self.message = key, message


def prepare(rules: RuleSet, version: IndexVersion) -> tuple[list[Prepared], list[Fault], list[Fault]]:
    """The rules over a version's items; the faults for which some cannot be used; and what is only to be warned of:
    items and values that the version does not have."""
    found, faults, warnings = list[Prepared](), list[Fault](), list[Fault]()
    for at, rule in enumerate(rules.rules):
        try:
            found.append(_prepared(rule, version))
        except _Wrong as wrong:
            faults.append(rules.fault(at, wrong.message, wrong.key))
        else:
            warnings += [rules.fault(at, message, key) for key, message in _unknown(rule, version)]
    return found, faults, warnings


def _prepared(rule: AnyRule, version: IndexVersion) -> Prepared:
    if isinstance(rule, InStock):
        return Prepared(rule, mask=_in_stock(rule.column, version))
    if isinstance(rule, Cap):
        return Prepared(rule, codes=_codes(rule.column, version))
    if isinstance(rule, BoughtBefore):
        return Prepared(rule, numbers=_days(rule, version))
    if isinstance(rule, Boost) and rule.column is not None:
        return Prepared(rule, numbers=_numbers(rule.column, version))
    listed = version.rows_of(list(rule.items or ()))
    listed = listed[listed >= 0]
    mask = np.zeros(version.size, bool)
    mask[listed] = True
    if not isinstance(rule, Pin) and rule.filter is not None:
        mask |= _passing(rule.filter, version)
    there = version.answerable()
    return Prepared(rule, mask=mask if there is None else mask & there, rows=listed)


def _passing(text: str, version: IndexVersion) -> Mask:
    try:
        wanted = parse_filters(text, version.stored.schema)
        return version.by_row(wanted.mask(version.stored))
    except BadRequest as error:
        named = str(error).partition("items have no column ")[2].partition(";")[0]
        near = closest(named, version.stored.schema.names) if named else ""
        raise _Wrong("filter", f"{error}{near}") from error


def _column(name: str, version: IndexVersion) -> pa.Array:
    """A column by row, as one array."""
    names = version.stored.schema.names
    if name not in names:
        raise _Wrong("column", f"items have no column {name}; they have: {', '.join(names)}{closest(name, names)}")
    return version.values_at(name, np.arange(version.size)).combine_chunks()


def _in_stock(name: str, version: IndexVersion) -> Mask:
    """Where a column is true or above 0, or nothing is known."""
    column = _column(name, version)
    if not pa.types.is_boolean(column.type):
        column = pc.greater(_as_numbers(name, column), 0.0)
    found: Mask = pc.fill_null(column, True).to_numpy(zero_copy_only=False)
    return found


def _numbers(name: str, version: IndexVersion) -> NDArray[np.float64]:
    found: NDArray[np.float64] = _as_numbers(name, _column(name, version)).to_numpy(zero_copy_only=False).copy()
    found[~np.isfinite(found)] = np.nan
    return found


def _as_numbers(name: str, column: pa.Array) -> pa.Array:
    if not (pa.types.is_integer(column.type) or pa.types.is_floating(column.type) or pa.types.is_boolean(column.type)):
        raise _Wrong("column", f"column {name} is of type {column.type}; name a column of numbers")
    return column.cast(pa.float64()) if not pa.types.is_boolean(column.type) else column.cast(pa.int8()).cast("float64")


def _codes(name: str, version: IndexVersion) -> NDArray[np.int64]:
    """A number for each distinct value, of a list's its last; -1 without a value."""
    column = _column(name, version)
    owners, values = _flat(column)
    codes = pc.dictionary_encode(values).indices.fill_null(-1).to_numpy(zero_copy_only=False)
    found = np.full(len(column), -1, np.int64)
    found[owners] = codes  # where an owner has several, the last stays
    return found


def _days(rule: BoughtBefore, version: IndexVersion) -> NDArray[np.float64]:
    """For how many days each item that was bought is not answered; nan where the rule does not say."""
    found = np.full(version.size, np.nan if rule.days is None else float(rule.days))
    if rule.by_category:
        owners, values = _flat(_column(rule.column, version))
        names = values.cast(pa.string())
        for category, days in rule.by_category.items():
            found[owners[pc.fill_null(pc.equal(names, category), False).to_numpy(zero_copy_only=False)]] = days
    return found


def _flat(column: pa.Array) -> tuple[Rows, pa.Array]:
    """The row and the value of everything in a column of values or of lists, in order."""
    if pa.types.is_list(column.type) or pa.types.is_large_list(column.type):
        return pc.list_parent_indices(column).to_numpy().astype(np.int64), pc.list_flatten(column)
    return np.arange(len(column)), column


def _unknown(rule: AnyRule, version: IndexVersion) -> Iterator[tuple[str, str]]:
    """Items and values that a rule names and the version does not have, each with the key that names it."""
    items: Sequence[str] = getattr(rule, "items", None) or ()
    held = set(version.held(items))
    if missing := [item for item in items if item not in held]:
        yield "items", f"the catalogue has no item {', '.join(missing[:5])}{' ...' if len(missing) > 5 else ''}"
    for column, value, key in _values(rule, version):
        known = _known_texts(column, version)
        if known is not None and value not in known:
            near = closest(value, known)
            yield key, f"no item has {column} = {value}{near}"


def _values(rule: AnyRule, version: IndexVersion) -> Iterator[tuple[str, str, str]]:
    """The texts that a rule compares columns with."""
    if isinstance(rule, BoughtBefore):
        yield from ((rule.column, category, "by_category") for category in rule.by_category)
    text = getattr(rule, "filter", None)
    for conditions in parse_filters(text, version.stored.schema).lists if text else ():
        for column, operator, value in conditions:
            if operator in ("=", "==", "in"):
                several = value if isinstance(value, tuple) else (value,)
                yield from ((column, one, "filter") for one in several if isinstance(one, str))


def _known_texts(name: str, version: IndexVersion) -> list[str] | None:
    """The distinct texts of a column; None where it holds none."""
    _, values = _flat(_column(name, version))
    return pc.unique(values.drop_null()).to_pylist() if pa.types.is_string(values.type) else None
