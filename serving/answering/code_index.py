"""Finds the items of a release by product codes, and by keys of codes and ids: see `retrieval.text.codes`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from indexing.version.hash_index import HashIndex, hash_keys
from retrieval.text.codes import code_key, is_code_column
from retrieval.topk import CSR, Rows

MOST_ITEMS = 50  # of one code: what more items have is a placeholder


@dataclass(frozen=True)
class _Table:
    """Rows by text; several may have one."""

    index: HashIndex
    rows: Rows

    @classmethod
    def of(cls, pairs: Iterable[tuple[str, int]]) -> _Table:
        texts, rows = zip(*pairs, strict=True) if (pairs := list(pairs)) else ((), ())
        return cls(HashIndex.build(hash_keys(texts)), np.array(rows, np.int64))

    def find(self, texts: Sequence[str]) -> CSR:
        """The rows of each text; none where more than MOST_ITEMS have it."""
        found = self.index.find_all(hash_keys(texts))
        few = np.diff(found.indptr) <= MOST_ITEMS
        found = found.where(few[found.owners])
        return found._replace(rows=self.rows[found.rows])


@dataclass(frozen=True)
class CodeIndex:
    """Items by code letter by letter, and by the keys of their codes and ids. Ids themselves are not in it."""

    texts: _Table
    keys: _Table

    @classmethod
    def of(cls, items: pa.Table, rows: Rows) -> CodeIndex:
        """Of items at the `rows` int64 [n_items]: ids, and the columns that `is_code_column` names, of text, whole
        numbers or lists of them. A key that is spelt as its code is found by the code, and not kept again."""
        texts, keys = list[tuple[str, int]](), list[tuple[str, int]]()
        for name in items.column_names:
            if name == "item_id" or is_code_column(name):
                codes = list(_codes(items[name].combine_chunks(), rows))
                texts += codes if name != "item_id" else []
                keyed = ((code_key(code), row, code) for code, row in codes)
                keys += [(key, row) for key, row, code in keyed if key != code and any(map(str.isdigit, key))]
        return cls(_Table.of(texts), _Table.of(keys))


def _codes(column: pa.Array, rows: Rows) -> Iterable[tuple[str, int]]:
    """Every code of a column with its row; none of a column of another kind."""
    types = pa.types
    if types.is_list(column.type):
        rows = rows[pc.list_parent_indices(column).to_numpy()]
        column = column.flatten()
    if types.is_floating(column.type):  # whole numbers of which some are unknown, as pandas has them
        whole = pc.and_(pc.equal(pc.floor(column), column), pc.less(pc.abs(column), 2.0**53))
        column = pc.if_else(whole, column, None).cast(pa.int64())
    if not types.is_string(column.type) and not types.is_integer(column.type):
        return ()
    known = column.is_valid().to_numpy(zero_copy_only=False)
    codes = (code.strip() for code in column.drop_null().cast(pa.string()).to_pylist())
    return ((code, row) for code, row in zip(codes, rows[known].tolist(), strict=True) if code)
