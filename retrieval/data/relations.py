"""Relations between items that the shop names: what completes an item, what stands in for it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from retrieval.data.audit import Codebook, FileAudit, Screen
from retrieval.data.checks import screen_ids
from retrieval.data.column_names import plain_name
from retrieval.data.events import UNKNOWN_ITEM, Codes

if TYPE_CHECKING:
    from scipy.sparse import csr_array

COMPLEMENT, SUBSTITUTE, SYNONYM, ACCESSORY = range(4)  # codes of the kinds
KINDS = ("complement", "substitute", "synonym", "accessory")
WORDS = (
    "complement cross goeswith boughttogether bundle pair related",
    "substitut alternativ replac upsell similar ersatz equivalent",
    "synonym duplicat same identical",
    "accessor addon sparepart zubehor accessoire accesorio",
)  # beginnings of what each kind is called by shops, without blanks and punctuation
UNKNOWN_KIND = "kind is no complement, substitute, synonym or accessory"
BOTH_WAYS = (COMPLEMENT, SUBSTITUTE, SYNONYM)  # an accessory goes with its item, but the item not with its accessory


@dataclass(frozen=True, kw_only=True)
class Relations:
    """Related items, each pair and kind once; all columns are [n].

    `item` and `related` int32 are positions in the data set's `item_ids`, `kind` int8 in KINDS.
    """

    item: Codes
    related: Codes
    kind: NDArray[np.int8]

    def __len__(self) -> int:
        return len(self.item)

    def matrix(self, kinds: Sequence[int], n_items: int) -> csr_array:
        """1 at (item, related item) of some kinds, sparse float32 [n_items, n_items]; of accessories that way alone."""
        from scipy.sparse import csr_array

        of = np.isin(self.kind, kinds)
        back = of & np.isin(self.kind, BOTH_WAYS)
        rows = np.concatenate([self.item[of], self.related[back]])
        columns = np.concatenate([self.related[of], self.item[back]])
        found = csr_array((np.ones(len(rows), np.float32), (rows, columns)), (n_items, n_items))
        found.data[:] = 1  # what is named both ways is summed before
        return found


def kind_of(name: str) -> int:
    """The code of a kind by what a shop calls it, -1 for none.

    >>> kind_of("cross-sell"), kind_of("Alternatives"), kind_of("accessory_of"), kind_of("colour")
    (0, 1, 3, -1)
    """
    plain = plain_name(name)
    return next((code for code, words in enumerate(WORDS) if plain.startswith(tuple(words.split()))), -1)


def read_relations(audit: FileAudit, item_ids: Sequence[str]) -> Relations:
    """Reads the usable relations of known items; one that is named again counts once."""
    items = Codebook(item_ids)
    parts = [_relations(screen, items) for screen in audit.screens(("item_id", "related_id", "kind"))]
    item, related, kind = (np.concatenate(column) for column in zip(*parts, strict=True))
    first = np.sort(np.unique(np.stack([item, related, kind]), axis=1, return_index=True)[1])
    return Relations(item=item[first], related=related[first], kind=kind[first].astype(np.int8))


def _relations(screen: Screen, items: Codebook) -> tuple[Codes, Codes, Codes]:
    item, related = (items.look_up(screen_ids(screen, name)) for name in ("item_id", "related_id"))
    names = screen.column("kind").cast(pa.string()).dictionary_encode()
    codes = np.array([kind_of(name) for name in names.dictionary.to_pylist()] or [-1], np.int32)
    kind = np.where(names.is_valid(), codes[pc.fill_null(names.indices, 0)], -1).astype(np.int32)
    screen.drop(UNKNOWN_KIND, kind < 0, "kind")
    screen.drop(UNKNOWN_ITEM, item < 0, "item_id", unknown=True)
    screen.drop("related_id not in items.parquet", related < 0, "related_id", unknown=True)
    screen.drop("item related to itself", (item == related) & (item >= 0), "related_id")
    kept = ~screen.dropped
    return item[kept], related[kept], kind[kept]
