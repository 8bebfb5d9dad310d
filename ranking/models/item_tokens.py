"""Token ids of items, stored in the index when it is built, so that a request tokenises only its user's text."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from indexing.version.index_version import IndexVersion
from ranking.models.pair_tokens import PairTokenizer, TokenLists
from retrieval.errors import BadBundle, StaleArtefact
from retrieval.fingerprint import fingerprint
from retrieval.text.rendering import item_texts, rendering_fingerprint
from retrieval.topk import Mask, Rows

COLUMN = "ranker_tokens"


@dataclass(frozen=True)
class ItemTokenColumn:
    """The item column of token ids: one list an item, of uint16, or int32 where the vocabulary is larger.

    `fingerprint` depends on the tokenizer, its maximum length and the rendering of texts, not on the model's weights:
    all models of one ranker share the column, and so does a ranker retrained from the same pretrained model.
    """

    tokenizer: PairTokenizer
    name: str = COLUMN

    @cached_property
    def fingerprint(self) -> str:
        """Changes whenever the token ids would."""
        return token_fingerprint(self.tokenizer)

    def compute(self, items: pa.Table, start: int, stop: int) -> pa.Array:
        """The token ids of rows start to stop, a list array [stop - start]."""
        tokens = self.tokenizer.encode(item_texts(items.slice(start, stop - start)), "item")
        values = pa.array(tokens.ids).cast(self._kind)
        return pa.ListArray.from_arrays(pa.array(tokens.indptr, pa.int32()), values)

    @cached_property
    def _kind(self) -> pa.DataType:
        return pa.uint16() if self.tokenizer.largest_id <= np.iinfo(np.uint16).max else pa.int32()


@dataclass(frozen=True)
class StoredTokens:
    """A list column of an index version, memory-mapped.

    Each of `parts` holds the offsets and values of consecutive rows; `starts` int64 [n_parts + 1] the first row of each
    part, and the number of rows.
    """

    parts: Sequence[tuple[NDArray[np.integer], NDArray[np.integer]]]
    starts: NDArray[np.int64]

    @classmethod
    def of(cls, column: pa.ChunkedArray) -> StoredTokens:
        """From an Arrow column of lists, without copying it."""
        parts = [(chunk.offsets.to_numpy(), chunk.values.to_numpy()) for chunk in column.chunks]
        return cls(parts, np.concatenate(([0], np.cumsum([len(chunk) for chunk in column.chunks]))))

    def __len__(self) -> int:
        return int(self.starts[-1])

    def at(self, rows: Rows) -> list[NDArray[np.integer]]:
        """The values at each of `rows` int64 [n]."""
        places = np.searchsorted(self.starts, rows, side="right") - 1
        found = []
        for part, row in zip(places.tolist(), (rows - self.starts[places]).tolist(), strict=True):
            offsets, ids = self.parts[part]
            found.append(ids[offsets[row] : offsets[row + 1]])
        return found


@dataclass(frozen=True)
class ItemTokens:
    """Token ids of items by row: from the index where they are still valid, else tokenised from the item's text.

    `texts` renders rows; `holds` says for which rows the stored ids are valid, None for all.
    """

    tokenizer: PairTokenizer
    texts: Callable[[Rows], Sequence[str]]
    stored: StoredTokens | None = None
    holds: Callable[[Rows], Mask] | None = None

    def __call__(self, rows: Rows) -> TokenLists:
        """The token ids of `rows` int64 [n], in that order."""
        if self.stored is None:
            return self.tokenizer.encode(self.texts(rows), "item")
        held = np.ones(len(rows), bool) if self.holds is None else self.holds(rows)
        if held.all():
            return TokenLists.of(self.stored.at(rows))
        kept = iter(self.stored.at(rows[held]))
        made = iter(self.tokenizer.encode(self.texts(rows[~held]), "item").split())
        return TokenLists.of([next(kept) if known else next(made) for known in held.tolist()])


def token_fingerprint(tokenizer: PairTokenizer) -> str:
    """The fingerprint of the column of this tokenizer's ids."""
    return fingerprint(tokenizer.fingerprint, rendering_fingerprint())


def stored_tokens(version: IndexVersion, tokenizer: PairTokenizer) -> StoredTokens | None:
    """The column of this tokenizer's ids in an index version; None where there is none, or of another tokenizer."""
    return stored_lists(version, COLUMN, token_fingerprint(tokenizer))


def stored_lists(version: IndexVersion, name: str, of: str) -> StoredTokens | None:
    """The list column `name` of an index version; None where there is none with the fingerprint `of`."""
    try:
        column = version.column(name, of)
    except (BadBundle, StaleArtefact):
        return None
    return StoredTokens.of(column) if isinstance(column, pa.ChunkedArray) else None
