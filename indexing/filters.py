"""Filters over the attributes of items, in pyarrow's own lists: any of some lists of conditions that all hold."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from retrieval.errors import BadRequest
from retrieval.topk import Mask

OPERATORS = ("=", "==", "!=", "<", "<=", ">", ">=", "in", "not in")
Condition: TypeAlias = tuple[str, str, object]


@dataclass(frozen=True)
class Dnf:
    """Filters whose columns and operators there are; equal ones are equal keys."""

    lists: tuple[tuple[Condition, ...], ...]

    def mask(self, items: pa.Table) -> Mask:
        """The rows that pass, bool [n]; a null passes no condition.

        Raises BadRequest for a value that its column cannot be compared with.
        """
        numbers = pa.array(np.arange(items.num_rows))
        columns = dict.fromkeys(name for conditions in self.lists for name, _, _ in conditions)
        numbered = items.select(list(columns)).append_column("", numbers)
        try:
            passed = numbered.filter(pq.filters_to_expression([list(one) for one in self.lists]))[""]
        except (pa.ArrowException, TypeError, ValueError) as error:
            reason = str(error).splitlines()[0]
            raise BadRequest(f"filters: {reason}; compare each column with values of its own type") from error
        mask = np.zeros(items.num_rows, np.bool_)
        mask[passed.to_numpy()] = True
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
