"""Events as numpy columns, and their reader."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from retrieval.data.audit import Bools, Codebook, FileAudit, Screen
from retrieval.data.checks import LARGEST, earliest_plausible, numbers, screen_amount, screen_ids, screen_times
from retrieval.data.event_kinds import Meaning, meaning
from retrieval.data.recorded import held_by
from retrieval.errors import BadData
from retrieval.text.rendering import query_text

MAX_KINDS = 1_000  # distinct kinds of events above which the column is taken for something else
RETURN = "return"  # the kind of an event that is read as a return
READ_AS_RETURN = "read as a return"
TAKES_BACK = (Meaning.PURCHASE, Meaning.OTHER)  # meanings of events by which less than nothing means a return
UNKNOWN_ITEM = "item_id not in items.parquet"
Codes = NDArray[np.int32]
_COLUMNS = ("user_id", "item_id", "event", "timestamp", "quantity", "price", "basket_id", "query", "rating")
_ROW = np.dtype(
    [
        ("user", np.int32),
        ("item", np.int32),
        ("kind", np.int16),
        ("time", np.int64),
        ("query", np.int32),
        ("basket", np.int32),
        ("quantity", np.float32),
        ("price", np.float32),
        ("rating", np.float32),
    ]
)


@dataclass(frozen=True, kw_only=True)
class Events:
    """The events of all shoppers, sorted by user, then time; all columns are [n_events].

    Events of one user and time are sorted by item and kind where there are baskets, else they keep the file's order.
    `user` and `item` int32 are positions in the data set's `user_ids` and `item_ids`; `kind` int16 in `kinds`; `time`
    int64 is microseconds since 1970, UTC; `query` int32 is a position in `query_texts`, -1 where the event has none;
    `basket` int32 numbers baskets, -1 where there is none; `quantity` float32 is 1, `price` and `rating` float32 NaN
    where not given. The events of user u are `offsets[u]:offsets[u + 1]`, int64 [n_users + 1].
    """

    user: Codes
    item: Codes
    kind: NDArray[np.int16]
    time: NDArray[np.int64]
    query: Codes
    basket: Codes
    quantity: NDArray[np.float32]
    price: NDArray[np.float32]
    rating: NDArray[np.float32]
    offsets: NDArray[np.int64]
    kinds: tuple[str, ...]
    query_texts: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.item)

    @property
    def has_baskets(self) -> bool:
        """Whether any event names its basket."""
        return bool((self.basket >= 0).any())

    def of_user(self, user: int) -> slice:
        """The slice of the events of a user (by code), oldest first."""
        return slice(int(self.offsets[user]), int(self.offsets[user + 1]))

    def is_kind(self, names: Iterable[str]) -> Bools:
        """Mask of the events whose kind is one of `names`, bool [n]."""
        wanted = set(names)
        return np.isin(self.kind, [code for code, name in enumerate(self.kinds) if name in wanted])

    def is_return(self) -> Bools:
        """Mask of the events that are returns, bool [n]."""
        return self.is_kind(name for name in self.kinds if meaning(name) is Meaning.RETURN)


class EventReader:
    """Reads events batch by batch and codes their strings; `users` collects all users and may be extended."""

    def __init__(self, item_ids: Sequence[str]) -> None:
        self.users = Codebook()
        self._items = Codebook(item_ids)
        self._kinds, self._baskets, self._queries = Codebook(), Codebook(), Codebook()
        self._parts: list[NDArray[np.void]] = []

    def read(self, audit: FileAudit, latest: int) -> None:
        """Reads the usable events of a file; `latest` is the last plausible time, in microseconds since 1970.

        Raises:
            BadData: there are more than MAX_KINDS kinds of events, or the file is truncated.
        """
        columns = tuple(name for name in _COLUMNS if name in audit.source.columns)
        first = earliest_plausible(batch["timestamp"] for batch in audit.source.batches(("timestamp",)))
        for screen in audit.screens(columns):
            self._parts.append(self._rows(screen, first, latest))
            if len(self._kinds) > MAX_KINDS:
                raise BadData(
                    f"{audit.source.path}: column event has more than {MAX_KINDS:,} distinct values; it should name "
                    "the kind of event: view, cart, purchase"
                )

    def read_recorded(self, audit: FileAudit, latest: int) -> int:
        """Reads the usable events of a store; returns how many of them those read before hold already, which are left
        out."""
        known, self._parts = self._parts, []
        self.read(audit, latest)
        rows = np.concatenate([np.empty(0, _ROW), *self._parts])
        held = held_by(rows, np.concatenate([np.empty(0, _ROW), *known]))
        self._parts = [*known, rows[~held]]
        return int(held.sum())

    def leave_out(self, forgotten_at: NDArray[np.int64]) -> int:
        """Leaves out what users did up to a time, int64 [n_users] by their code, microseconds since 1970; returns how
        many events those were."""
        before = sum(map(len, self._parts))
        self._parts = [rows[rows["time"] > forgotten_at[rows["user"]]] for rows in self._parts]
        return before - sum(map(len, self._parts))

    def users_with_events(self) -> set[int]:
        """The codes of the users of the events read."""
        return {user for rows in self._parts for user in np.unique(rows["user"]).tolist()}

    def events(self, user_ids: Sequence[str]) -> Events:
        """All events read, sorted, with users as positions in `user_ids`, which has to hold all of theirs."""
        rows = np.concatenate(self._parts)
        self._parts = []
        user = self.users.recoded(user_ids)[rows["user"]]
        rows = rows[np.lexsort((*self._tie_keys(rows), rows["time"], user))]
        user = np.sort(user)
        kinds = sorted(self._kinds.codes)
        columns = {name: np.ascontiguousarray(rows[name]) for name in _ROW.names or ()}
        asked, columns["query"] = self._asked(columns["query"])
        columns |= {"user": user, "kind": self._kinds.recoded(kinds)[columns["kind"]].astype(np.int16)}
        return Events(
            **columns,
            offsets=np.searchsorted(user, np.arange(len(user_ids) + 1)).astype(np.int64),
            kinds=tuple(kinds),
            query_texts=asked,
        )

    def _asked(self, codes: Codes) -> tuple[tuple[str, ...], Codes]:
        """The texts of the queries of events, and the events' codes into them."""
        used = np.unique(codes[codes >= 0])
        texts = tuple(self._queries.codes)
        if len(used) == len(texts):
            return texts, codes
        place = np.full(len(texts) + 1, -1, np.int32)
        place[used] = np.arange(len(used))
        return tuple(texts[code] for code in used.tolist()), place[codes]

    def _tie_keys(self, rows: NDArray[np.void]) -> tuple[NDArray[np.integer], ...]:
        """Sort keys of events at one time, the least significant first: kind and item by name where there are baskets,
        whose rows come in any order; none without baskets, which keeps the file's order."""
        if not (rows["basket"] >= 0).any():
            return ()
        books = {"kind": self._kinds, "item": self._items}
        return tuple(book.recoded(sorted(book.codes))[rows[name]] for name, book in books.items())

    def _rows(self, screen: Screen, first: int, latest: int) -> NDArray[np.void]:
        users, items = screen_ids(screen, "user_id"), screen_ids(screen, "item_id")
        kinds = _read_as_returns(screen, screen_ids(screen, "event"))
        rows = np.zeros(screen.n, _ROW)
        rows["time"] = screen_times(screen, "timestamp", first, latest)
        rows["item"] = self._items.look_up(items)
        screen.drop(UNKNOWN_ITEM, rows["item"] < 0, "item_id", unknown=True)
        kept = pa.array(~screen.dropped)
        rows["user"] = self.users.add(users, kept)
        rows["kind"] = self._kinds.add(kinds, kept, str.strip)
        self._fill_optional(screen, rows, kept, _means(kinds, Meaning.RETURN))
        return rows[~screen.dropped]

    def _fill_optional(self, screen: Screen, rows: NDArray[np.void], kept: pa.Array, returns: Bools) -> None:
        rows["quantity"], rows["price"], rows["rating"], rows["basket"], rows["query"] = 1, np.nan, np.nan, -1, -1
        if "quantity" in screen:
            rows["quantity"] = np.nan_to_num(screen_amount(screen, "quantity", signless=returns), nan=1.0)
        if "price" in screen:
            rows["price"] = screen_amount(screen, "price", signless=returns)
        if "rating" in screen:
            rows["rating"] = screen_amount(screen, "rating")
        if "basket_id" in screen:
            rows["basket"] = self._baskets.add(screen.column("basket_id").cast(pa.string()), kept)
        if "query" in screen:
            rows["query"] = self._queries.add(screen.column("query"), kept, query_text)


def _read_as_returns(screen: Screen, kinds: pa.Array) -> pa.Array:
    """The names of events, string [n], with `return` in place of those by which less than nothing was bought.

    Rows that put less than nothing into a cart or a list are set aside.
    """
    if "quantity" not in screen:
        return kinds
    amount, _ = numbers(screen.column("quantity"))
    below = (amount < 0) & (amount >= -LARGEST)
    back = below & _means(kinds, *TAKES_BACK)
    screen.remark("quantity negative in an event that is no return", back, "quantity", READ_AS_RETURN)
    put = _means(kinds, Meaning.CHECKOUT, Meaning.CART, Meaning.FAVOURITE)
    screen.drop("quantity negative of what was put into a cart or a list", below & put, "quantity")
    return pc.if_else(pa.array(back), RETURN, kinds)


def kind_read(kind: str, quantity: float | None) -> str:
    """The name of an event as it is read: `return` where by a purchase less than nothing was bought.

    >>> kind_read("purchase", -1.0), kind_read("view", -1.0), kind_read("purchase", None)
    ('return', 'view', 'purchase')
    """
    return RETURN if quantity is not None and quantity < 0 and meaning(kind) in TAKES_BACK else kind


def _means(kinds: pa.Array, *meanings: Meaning) -> Bools:
    """Mask of the names of events with one of the meanings, bool [n]; False for null."""
    coded = kinds.dictionary_encode()
    found = [meaning(name.strip()) in meanings for name in coded.dictionary.to_pylist()]
    codes = coded.indices.fill_null(len(found)).to_numpy(zero_copy_only=False)
    mask: Bools = np.array([*found, False], bool)[codes]
    return mask
