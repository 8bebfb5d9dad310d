"""Token ids of items, made once when an index is built: a request tokenises its user's text alone."""

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
    """The item column of what a tokenizer makes of every item's text: lists of uint16, or int32 where ids are larger.

    `fingerprint` follows the tokenizer, the length it keeps and the rendering of texts, not the model's weights: all
    models of one ranker read the same column, and so does a ranker trained again from the same pretrained one.
    """

    tokenizer: PairTokenizer
    name: str = COLUMN

    @cached_property
    def fingerprint(self) -> str:
        """See the class."""
        return token_fingerprint(self.tokenizer)

    def compute(self, items: pa.Table, start: int, stop: int) -> pa.Array:
        """The token ids of rows start to stop."""
        tokens = self.tokenizer.encode(item_texts(items.slice(start, stop - start)))
        values = pa.array(tokens.ids).cast(self._kind)
        return pa.ListArray.from_arrays(pa.array(tokens.indptr, pa.int32()), values)

    @cached_property
    def _kind(self) -> pa.DataType:
        return pa.uint16() if self.tokenizer.largest_id <= np.iinfo(np.uint16).max else pa.int32()


@dataclass(frozen=True)
class StoredTokens:
    """A column of token ids as it lies on disk, memory-mapped.

    `parts` hold the offsets and the ids of consecutive rows, `starts` the first row of each part and the end.
    """

    parts: Sequence[tuple[NDArray[np.integer], NDArray[np.integer]]]
    starts: NDArray[np.int64]

    @classmethod
    def of(cls, column: pa.ChunkedArray) -> StoredTokens:
        """From an Arrow column of lists; nothing is copied."""
        parts = [(chunk.offsets.to_numpy(), chunk.values.to_numpy()) for chunk in column.chunks]
        return cls(parts, np.concatenate(([0], np.cumsum([len(chunk) for chunk in column.chunks]))))

    def __len__(self) -> int:
        return int(self.starts[-1])

    def at(self, rows: Rows) -> list[NDArray[np.integer]]:
        """The token ids at each row."""
        places = np.searchsorted(self.starts, rows, side="right") - 1
        found = []
        for part, row in zip(places.tolist(), (rows - self.starts[places]).tolist(), strict=True):
            offsets, ids = self.parts[part]
            found.append(ids[offsets[row] : offsets[row + 1]])
        return found


@dataclass(frozen=True)
class ItemTokens:
    """Tokens of items by row: those that are stored and still hold, and of the others what `tokenizer` makes of their
    texts. Both are the same ids."""

    tokenizer: PairTokenizer
    texts: Callable[[Rows], Sequence[str]]
    stored: StoredTokens | None = None
    holds: Callable[[Rows], Mask] | None = None  # which rows the stored ones hold of; none: all

    def __call__(self, rows: Rows) -> TokenLists:
        """Those of `rows` int64 [n], in their order."""
        if self.stored is None:
            return self.tokenizer.encode(self.texts(rows))
        held = np.ones(len(rows), bool) if self.holds is None else self.holds(rows)
        if held.all():
            return TokenLists.of(self.stored.at(rows))
        kept = iter(self.stored.at(rows[held]))
        made = iter(self.tokenizer.encode(self.texts(rows[~held])).split())
        return TokenLists.of([next(kept) if known else next(made) for known in held.tolist()])


def token_fingerprint(tokenizer: PairTokenizer) -> str:
    """The fingerprint that a column of this tokenizer's ids carries."""
    return fingerprint(tokenizer.fingerprint, rendering_fingerprint())


def stored_tokens(version: IndexVersion, tokenizer: PairTokenizer) -> StoredTokens | None:
    """What an index version holds of this tokenizer's ids; None where it has none, or those of another tokenizer."""
    return stored_lists(version, COLUMN, token_fingerprint(tokenizer))


def stored_lists(version: IndexVersion, name: str, of: str) -> StoredTokens | None:
    """An item column of lists as an index version holds it; None where it has none, or one of another fingerprint."""
    try:
        column = version.column(name, of)
    except (BadBundle, StaleArtefact):
        return None
    return StoredTokens.of(column) if isinstance(column, pa.ChunkedArray) else None
