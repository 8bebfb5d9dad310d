"""Filters over the attributes of items: as text (see `filter_grammar`), as pyarrow's own lists, or as those in JSON."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, date, datetime
from functools import reduce
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from indexing.version.filter_grammar import COMPARISONS, Condition, Lists, both, parse_text, text_of
from retrieval.errors import BadRequest
from retrieval.topk import Mask

OPERATORS = (*COMPARISONS, "in", "not in")
NEGATED = {"!=": "=", "not in": "in"}


@dataclass(frozen=True)
class Dnf:
    """Checked filters: an OR of lists, each an AND of conditions; hashable."""

    lists: tuple[tuple[Condition, ...], ...]

    def mask(self, items: pa.Table) -> Mask:
        """The rows of `items` that pass, bool [n]; a null passes no condition.

        A list (a category that is a path or a set) passes if one of its values does; for `!=` and `not in`, if none of
        its values is named. Raises BadRequest for a value that its column cannot be compared with.
        """
        every = [[_mask(items, condition) for condition in conditions] for conditions in self.lists]
        passed: Mask = np.logical_or.reduce([np.logical_and.reduce(masks) for masks in every])
        return passed


def _mask(items: pa.Table, condition: Condition) -> Mask:
    name, operator, value = condition
    try:
        return _passing(items[name], operator, value)
    except (pa.ArrowException, TypeError, ValueError, OverflowError) as error:
        told, reason = text_of([[condition]]), str(error).splitlines()[0]
        raise BadRequest(
            f"filters: {told}: {name} is of type {items[name].type} ({reason}); compare it with values of its own type"
        ) from error


def _passing(column: pa.ChunkedArray, operator: str, value: object) -> Mask:
    """Where a condition holds in a column, bool [n]."""
    if not pa.types.is_list(column.type) and not pa.types.is_large_list(column.type):
        return _matching(column, operator, value)
    if operator in NEGATED:
        present: Mask = column.is_valid().to_numpy()
        return present & ~_passing(column, NEGATED[operator], value)
    lists = column.combine_chunks()
    passed = np.zeros(len(column), np.bool_)
    owners = pc.list_parent_indices(lists).to_numpy()
    passed[owners[_matching(pa.chunked_array([pc.list_flatten(lists)]), operator, value)]] = True
    return passed


def _matching(column: pa.ChunkedArray, operator: str, value: object) -> Mask:
    """Where a condition holds in a column of plain values, bool [n], with pyarrow's own semantics."""
    if operator in ("in", "not in") and not value:  # of no values
        return np.zeros(len(column), np.bool_) if operator == "in" else column.is_valid().to_numpy()
    numbered = pa.table({"value": column, "row": np.arange(len(column))})
    mask = np.zeros(len(column), np.bool_)
    mask[numbered.filter(pq.filters_to_expression([("value", operator, value)]))["row"].to_numpy()] = True
    return mask


def parse_filters(filters: Any, schema: pa.Schema) -> Dnf:
    """Filters as `lists_of` takes them, over the columns of a schema.

    Raises BadRequest in one line for what is no filter, a column that the schema does not have, or an unknown operator.
    """
    checked = tuple(tuple(_checked(condition, schema) for condition in one) for one in lists_of(filters))
    try:
        hash(checked)
    except TypeError as error:
        raise _shapeless(filters) from error
    return Dnf(checked)


def lists_of(filters: Any) -> Lists:
    """Filters in one form, whichever they come in: text, `[(column, operator, value), ...]` of which all are to hold, a
    list of such lists of which one is, or either of these as JSON. Raises BadRequest for what is none of them.

    >>> lists_of("price < 20") == lists_of([("price", "<", 20)]) == lists_of('[["price", "<", 20]]')
    True
    """
    try:
        if isinstance(filters, str):
            if not filters.lstrip().startswith("["):
                return parse_text(filters)
            filters = _json(filters)
        flat = all(isinstance(condition[0], str) for condition in filters)
        lists = [[_condition(condition) for condition in one] for one in ([filters] if flat else filters)]
        if not lists or not all(lists):
            raise ValueError("a list without a condition")
    except (TypeError, ValueError, IndexError, KeyError, RecursionError) as error:
        raise _shapeless(filters) from error
    return lists


def all_of(filters: Iterable[Any]) -> Lists | None:
    """What passes every one of some filters; None without any. Raises BadRequest as `lists_of` does."""
    lists = [lists_of(one) for one in filters]
    return reduce(both, lists) if lists else None


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise BadRequest(f'filters: {text} is no JSON ({error}); write price < 20, or [["price", "<", 20]]') from error


def _condition(condition: Any) -> Condition:
    if isinstance(condition, str):
        raise ValueError(f"{condition} is no condition")
    name, operator, value = condition
    return name, operator, value


def _shapeless(filters: Any) -> BadRequest:
    return BadRequest(
        f'filters are {filters!r:.200}; write them as price < 20 and brand in (Acme, "Big Co"), or give a list of '
        "(column, operator, value), or a list of such lists"
    )


def _checked(condition: Condition, schema: pa.Schema) -> Condition:
    name, operator, value = condition
    if name not in schema.names:
        raise BadRequest(f"filters: items have no column {name}; they have: {', '.join(schema.names)}")
    if operator not in OPERATORS:
        raise BadRequest(f"filters: {name} {operator!r} is no comparison; use one of {', '.join(OPERATORS)}")
    kind = schema.field(name).type
    if isinstance(value, list | tuple | set | frozenset):
        return name, operator, tuple(_typed(one, kind) for one in value)
    return name, operator, _typed(value, kind)


def _typed(value: object, kind: pa.DataType) -> object:
    """A date or time that is written as text, for a column of such; a number beyond 64 bits as infinity."""
    if isinstance(value, int) and not -(2**63) <= value < 2**63:
        return math.inf if value > 0 else -math.inf
    if not isinstance(value, str) or not (pa.types.is_date(kind) or pa.types.is_timestamp(kind)):
        return value
    try:
        if pa.types.is_date(kind):
            return date.fromisoformat(value)
        moment = datetime.fromisoformat(value)
    except ValueError:
        return value  # comparing it tells of the column's type
    return moment if kind.tz is None or moment.tzinfo is not None else moment.replace(tzinfo=UTC)
