"""Filters over the attributes of items, in pyarrow's own lists: any of some lists of conditions that all hold."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from retrieval.errors import BadRequest
from retrieval.topk import Mask

OPERATORS = ("=", "==", "!=", "<", "<=", ">", ">=", "in", "not in")
NEGATED = {"!=": "=", "not in": "in"}
Condition: TypeAlias = tuple[str, str, object]


@dataclass(frozen=True)
class Dnf:
    """Filters whose columns and operators there are; equal ones are equal keys."""

    lists: tuple[tuple[Condition, ...], ...]

    def mask(self, items: pa.Table) -> Mask:
        """The rows that pass, bool [n]; a null passes no condition.

        A list (a category that is a path or a set) passes where one of its values does, and `!=` and `not in` where
        none of its values is named. Raises BadRequest for a value that its column cannot be compared with.
        """
        try:
            every = [[_passing(items[name], operator, value) for name, operator, value in one] for one in self.lists]
        except (pa.ArrowException, TypeError, ValueError) as error:
            reason = str(error).splitlines()[0]
            raise BadRequest(f"filters: {reason}; compare each column with values of its own type") from error
        passed: Mask = np.logical_or.reduce([np.logical_and.reduce(masks) for masks in every])
        return passed


def _passing(column: pa.ChunkedArray, operator: str, value: object) -> Mask:
    """The rows of a column for which a condition holds, bool [n]."""
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
    """The same of a column of plain values, as pyarrow's data sets have it."""
    numbered = pa.table({"value": column, "row": np.arange(len(column))})
    mask = np.zeros(len(column), np.bool_)
    mask[numbered.filter(pq.filters_to_expression([("value", operator, value)]))["row"].to_numpy()] = True
    return mask


def parse_filters(filters: Any, schema: pa.Schema) -> Dnf:
    """Filters as a caller gives them: `[(column, operator, value), ...]`, or a list of such lists.

    Raises BadRequest in one line for another shape, a column that the schema does not have, or an unknown operator.
    """
    try:
        flat = all(isinstance(condition[0], str) for condition in filters)
        lists = [[tuple(condition) for condition in one] for one in ([filters] if flat else filters)]
        checked = tuple(tuple(_checked(condition, schema) for condition in one) for one in lists)
        hash(checked)
        if not all(checked):
            raise ValueError("a list without a condition")
    except (TypeError, ValueError, IndexError, KeyError) as error:
        raise BadRequest(
            f"filters are {filters!r}; give a list of (column, operator, value), or a list of such lists"
        ) from error
    return Dnf(checked)


def _checked(condition: tuple[Any, ...], schema: pa.Schema) -> Condition:
    name, operator, value = condition
    if name not in schema.names:
        raise BadRequest(f"filters: items have no column {name}; they have: {', '.join(schema.names)}")
    if operator not in OPERATORS:
        raise BadRequest(f"filters: {name} {operator!r} is no comparison; use one of {', '.join(OPERATORS)}")
    return name, operator, tuple(value) if isinstance(value, list | set | frozenset) else value
