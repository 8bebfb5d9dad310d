"""Pairs as token ids: each text is tokenised once, and a long pair is cut so that the item's text survives."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal, NamedTuple, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from retrieval.encoders.text_encoder import load_tokenizer, max_tokens, named_prompts
from retrieval.errors import BadBundle, ShortlistError
from retrieval.fingerprint import fingerprint

USER_SHARE = 4  # where a pair is too long, the user's text keeps at most 1 / USER_SHARE of the room
TOKENISED_AT_ONCE = 8_192
Side: TypeAlias = Literal["user", "item"]


class TextByRow(Protocol):
    """Rendered texts by row: a list of all, or a dict of the needed ones."""

    def __getitem__(self, row: int, /) -> str: ...


class TokensByRow(Protocol):
    """Token ids of items: called with `rows` int64 [n], it returns a list for each, in that order."""

    def __call__(self, rows: NDArray[np.int64], /) -> TokenLists: ...


@dataclass(frozen=True)
class TokenLists:
    """Texts as token ids without special tokens, concatenated: text i is `ids[indptr[i]:indptr[i + 1]]`."""

    ids: NDArray[np.int32]
    indptr: NDArray[np.int64]

    @property
    def lengths(self) -> NDArray[np.int64]:
        """The number of tokens of each text."""
        return np.diff(self.indptr)

    def split(self) -> list[NDArray[np.int32]]:
        """The ids of each text."""
        return np.split(self.ids, self.indptr[1:-1]) if len(self.indptr) > 1 else []

    @classmethod
    def join(cls, parts: Sequence[TokenLists]) -> TokenLists:
        """The texts of several parts, one part after the other."""
        sizes = np.concatenate([part.lengths for part in parts])
        return cls(np.concatenate([part.ids for part in parts]), np.concatenate(([0], np.cumsum(sizes))))

    @classmethod
    def of(cls, lists: Sequence[NDArray[np.integer]]) -> TokenLists:
        """From one array of token ids a text."""
        sizes = np.fromiter(map(len, lists), np.int64, len(lists))
        ids = np.concatenate(lists).astype(np.int32) if lists else np.empty(0, np.int32)
        return cls(ids, np.concatenate(([0], np.cumsum(sizes))))


def _starts(parts: Sequence[TokenLists]) -> NDArray[np.int64]:
    """How many texts there are before each part."""
    return np.cumsum([0, *(len(part.indptr) - 1 for part in parts[:-1])])


class PairBatch(NamedTuple):
    """Padded pairs, the inputs of a model: int64 [b, l] each."""

    input_ids: NDArray[np.int64]
    attention_mask: NDArray[np.int64]
    token_type_ids: NDArray[np.int64]


class TokenisedPairs(NamedTuple):
    """Pairs, as positions in two lists of tokenised texts."""

    users: TokenLists
    items: TokenLists
    user: NDArray[np.int64]  # [n] into users
    item: NDArray[np.int64]  # [n] into items

    def select(self, pairs: NDArray[np.int64]) -> TokenisedPairs:
        """The pairs at some positions int64 [m]."""
        return self._replace(user=self.user[pairs], item=self.item[pairs])

    @classmethod
    def join(cls, parts: Sequence[TokenisedPairs]) -> TokenisedPairs:
        """The pairs of several parts, one part after the other."""
        if len(parts) == 1:
            return parts[0]
        users, items = [part.users for part in parts], [part.items for part in parts]
        user, item = (
            np.concatenate([place + start for place, start in zip(places, _starts(lists), strict=True)])
            for places, lists in (([part.user for part in parts], users), ([part.item for part in parts], items))
        )
        return cls(TokenLists.join(users), TokenLists.join(items), user, item)


class _Template(NamedTuple):
    """The special tokens around a pair, and the token type of each of the five parts."""

    before: NDArray[np.int32]
    between: NDArray[np.int32]
    after: NDArray[np.int32]
    types: tuple[int, int, int, int, int]

    @property
    def size(self) -> int:
        return len(self.before) + len(self.between) + len(self.after)


class PairTokenizer:
    """Turns pairs into batches with a `tokenizers` tokenizer; pairs within `max_length` as sentence-transformers does.

    A longer pair loses the end of the user's text first, down to a quarter of the room, then the end of the item's.
    """

    def __init__(
        self, tokenizer: Tokenizer, *, max_length: int, pad_id: int = 0, prompts: Mapping[str, str] | None = None
    ) -> None:
        """`max_length` counts all tokens of a pair, with special ones. Switches off the tokenizer's padding and
        truncation. `prompts` are written before every text, by side.

        Raises BadBundle where `max_length` leaves no room for text.
        """
        tokenizer.no_truncation()
        tokenizer.no_padding()
        self._tokenizer, self.max_length, self.pad_id = tokenizer, max_length, pad_id
        self._prompts, self._template = dict(prompts or {}), _template(tokenizer)
        self._room = max_length - self._template.size
        if self._room < USER_SHARE:
            raise BadBundle(f"a pair of at most {max_length} tokens leaves no room for text; raise max_length")

    @classmethod
    def load(cls, folder: Path) -> PairTokenizer:
        """The fast tokenizer of a model folder, with the model's maximum length and the prompts that are recorded for
        `user` and `item`; raises BadBundle without one."""
        try:
            tokenizer, pad_id = load_tokenizer(folder, None)
        except ShortlistError:
            raise
        except Exception as error:  # the tokenizers library raises a bare Exception for what it cannot parse
            raise BadBundle(f"{folder}/tokenizer.json cannot be read ({error}); train or adopt the ranker") from error
        return cls(tokenizer, max_length=max_tokens(folder), pad_id=pad_id, prompts=named_prompts(folder))

    @cached_property
    def fingerprint(self) -> str:
        """Changes whenever `encode` would: with the tokenizer, the length that it keeps, and the prompts."""
        return fingerprint(self._tokenizer.to_str(), self._room, *([self._prompts] if self._prompts else []))

    @property
    def largest_id(self) -> int:
        """The highest token id of the vocabulary."""
        return max(self._tokenizer.get_vocab(with_added_tokens=True).values())

    def encode(self, texts: Sequence[str], side: Side) -> TokenLists:
        """Tokenise texts under the prompt of their side without special tokens, each cut to what a pair can hold."""
        lists: list[NDArray[np.int32]] = []
        prompt = self._prompts.get(side, "")
        for start in range(0, len(texts), TOKENISED_AT_ONCE):
            part = [prompt + text for text in texts[start : start + TOKENISED_AT_ONCE]]
            encoded = self._tokenizer.encode_batch_fast(part, add_special_tokens=False)
            lists += [np.asarray(one.ids[: self._room], np.int32) for one in encoded]
        return TokenLists.of(lists)

    def pairs(
        self, user_texts: TextByRow, item_texts: TextByRow, user: NDArray[np.int64], item: NDArray[np.int64]
    ) -> TokenisedPairs:
        """Tokenise the pairs (user_texts[user[i]], item_texts[item[i]]), int64 [n] each, and each distinct text
        once."""
        items, item = self._distinct(item_texts, item, "item")
        users, user = self._distinct(user_texts, user, "user")
        return TokenisedPairs(users, items, user, item)

    def pairs_of_tokens(
        self, user_texts: TextByRow, item_tokens: TokensByRow, user: NDArray[np.int64], item: NDArray[np.int64]
    ) -> TokenisedPairs:
        """The same, where the items' token ids are known."""
        users, user = self._distinct(user_texts, user, "user")
        rows, place = np.unique(item, return_inverse=True)
        return TokenisedPairs(users, item_tokens(rows), user, place)

    def alone(self, ids: NDArray[np.integer], side: Side, places: int) -> NDArray[np.int64]:
        """One text of a pair alone, with the special tokens around it; int64 [n], at most `places` of them."""
        before, between, after, _ = self._template
        first, last = (before, between) if side == "user" else (between[:0], after)
        kept = ids[: places - len(first) - len(last)]
        return np.concatenate([first, kept, last]).astype(np.int64)

    def lengths(self, pairs: TokenisedPairs) -> NDArray[np.int64]:
        """The number of tokens of each pair, with special ones, int64 [n]."""
        user, item = self._kept(pairs)
        return user + item + self._template.size

    def batch(self, pairs: TokenisedPairs, *, multiple: int = 1) -> PairBatch:
        """All pairs as one batch, padded to the longest of them, rounded up to a multiple of `multiple`."""
        before, between, after, kinds = self._template
        user, item = self._kept(pairs)
        sizes = np.broadcast_arrays(len(before), user, len(between), item, len(after))
        ends = np.cumsum(np.stack(sizes, axis=1), axis=1)  # of each of the five parts, [b, 5]
        width = -(-int(ends[:, -1].max(initial=0)) // multiple) * multiple
        part = (np.arange(width) >= ends[:, :, None]).sum(axis=1)  # which part each place is in, 5 for padding
        ids = np.full(part.shape, self.pad_id, np.int64)
        for number, special in ((0, before), (2, between), (4, after)):
            ids[part == number] = np.tile(special, len(part))
        ids[part == 1] = pairs.users.ids[spans(pairs.users.indptr[pairs.user], user)]
        ids[part == 3] = pairs.items.ids[spans(pairs.items.indptr[pairs.item], item)]
        return PairBatch(ids, (part < 5).astype(np.int64), np.array((*kinds, 0), np.int64)[part])

    def _kept(self, pairs: TokenisedPairs) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """How many tokens of each pair's user text and item text are kept, int64 [n] each."""
        user, item = pairs.users.lengths[pairs.user], pairs.items.lengths[pairs.item]
        user = np.minimum(user, np.maximum(self._room - item, self._room // USER_SHARE))
        return user, np.minimum(item, self._room - user)

    def _distinct(
        self, texts: TextByRow, wanted: NDArray[np.int64], side: Side
    ) -> tuple[TokenLists, NDArray[np.int64]]:
        rows, place = np.unique(wanted, return_inverse=True)
        first: dict[str, int] = {}
        number = np.fromiter((first.setdefault(texts[row], len(first)) for row in rows.tolist()), np.int64, len(rows))
        return self.encode(list(first), side), number[place]


def spans(starts: NDArray[np.int64], sizes: NDArray[np.int64]) -> NDArray[np.int64]:
    """The positions of runs that begin at `starts` and are `sizes` long, concatenated.

    >>> spans(np.array([5, 0]), np.array([2, 3])).tolist()
    [5, 6, 0, 1, 2]
    """
    return np.repeat(starts - np.cumsum(sizes) + sizes, sizes) + np.arange(sizes.sum())


def _template(tokenizer: Tokenizer) -> _Template:
    """The special tokens around a pair, read off a tokenised one, so that any model's template works."""
    pair = tokenizer.encode("a", "b")
    owners, ids, types = pair.sequence_ids, np.asarray(pair.ids, np.int32), pair.type_ids
    if 0 not in owners or 1 not in owners:
        raise BadBundle(
            "the tokenizer has no tokens for the letters a and b, so that pairs cannot be read; use another model"
        )
    first, last = owners.index(0), len(owners) - 1 - owners[::-1].index(0)
    second, end = owners.index(1), len(owners) - 1 - owners[::-1].index(1)
    at = [first - 1, first, last + 1, second, end + 1]
    kinds = [types[place] if 0 <= place < len(types) else 0 for place in at]
    return _Template(
        before=ids[:first],
        between=ids[last + 1 : second],
        after=ids[end + 1 :],
        types=(kinds[0], kinds[1], kinds[2], kinds[3], kinds[4]),
    )
