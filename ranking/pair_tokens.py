"""Pairs as token ids: each text is tokenised once, each pair is cut so that the item is never lost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from retrieval.encoder import load_tokenizer, max_tokens
from retrieval.errors import BadBundle, ShortlistError

USER_SHARE = 4  # where a pair is too long, the user's text may keep this part (a quarter) of the room
TOKENISED_AT_ONCE = 8_192


class TextByRow(Protocol):
    """Rendered texts by row: a list of all of them, or a dict of those that are needed."""

    def __getitem__(self, row: int, /) -> str: ...


@dataclass(frozen=True)
class TokenLists:
    """Texts as token ids without special tokens, end to end: text i is `ids[indptr[i]:indptr[i + 1]]`."""

    ids: NDArray[np.int32]
    indptr: NDArray[np.int64]

    def __getitem__(self, text: int) -> NDArray[np.int32]:
        return self.ids[self.indptr[text] : self.indptr[text + 1]]

    @property
    def lengths(self) -> NDArray[np.int64]:
        """The number of tokens of each text."""
        return np.diff(self.indptr)


class PairBatch(NamedTuple):
    """Padded pairs as a model takes them, int64 [b, l] each."""

    input_ids: NDArray[np.int64]
    attention_mask: NDArray[np.int64]
    token_type_ids: NDArray[np.int64]


class TokenisedPairs(NamedTuple):
    """Pairs by position in two lists of tokenised texts."""

    users: TokenLists
    items: TokenLists
    user: NDArray[np.int64]  # [n] into users
    item: NDArray[np.int64]  # [n] into items

    def select(self, pairs: NDArray[np.int64]) -> TokenisedPairs:
        """Some of the pairs, by position."""
        return self._replace(user=self.user[pairs], item=self.item[pairs])


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
    """Turns pairs into batches by a `tokenizers` tokenizer, as sentence-transformers does where nothing is too long.

    A pair that exceeds `max_length` loses the end of the user's text first, down to a quarter of the room, and only
    then the end of the item's.
    """

    def __init__(self, tokenizer: Tokenizer, *, max_length: int, pad_id: int = 0) -> None:
        """`max_length` counts all tokens of a pair, special ones too; padding and truncation are switched off."""
        tokenizer.no_truncation()
        tokenizer.no_padding()
        self._tokenizer, self.max_length, self._pad_id = tokenizer, max_length, pad_id
        self._template = _template(tokenizer)
        self._room = max_length - self._template.size
        if self._room < USER_SHARE:
            raise BadBundle(f"a pair of at most {max_length} tokens leaves no room for text; raise max_length")

    @classmethod
    def load(cls, folder: Path) -> PairTokenizer:
        """The fast tokenizer of a model folder, with the model's own longest length. Raises BadBundle without one."""
        try:
            tokenizer, pad_id = load_tokenizer(folder, None)
        except ShortlistError:
            raise
        except Exception as error:  # the tokenizers library raises a bare Exception for what it cannot parse
            raise BadBundle(f"{folder}/tokenizer.json cannot be read ({error}); train or adopt the ranker") from error
        return cls(tokenizer, max_length=max_tokens(folder), pad_id=pad_id)

    def encode(self, texts: Sequence[str]) -> TokenLists:
        """Tokenise each text once, without special tokens; what no pair could hold is cut off."""
        lists: list[NDArray[np.int32]] = []
        for start in range(0, len(texts), TOKENISED_AT_ONCE):
            part = list(texts[start : start + TOKENISED_AT_ONCE])
            encoded = self._tokenizer.encode_batch_fast(part, add_special_tokens=False)
            lists += [np.asarray(one.ids[: self._room], np.int32) for one in encoded]
        sizes = np.fromiter(map(len, lists), np.int64, len(lists))
        return TokenLists(
            np.concatenate(lists) if lists else np.empty(0, np.int32), np.concatenate(([0], np.cumsum(sizes)))
        )

    def pairs(
        self, user_texts: TextByRow, item_texts: TextByRow, user: NDArray[np.int64], item: NDArray[np.int64]
    ) -> TokenisedPairs:
        """Tokenise what the pairs (user[i], item[i]) need, each distinct text once."""
        users, user = self._distinct(user_texts, user)
        items, item = self._distinct(item_texts, item)
        return TokenisedPairs(users, items, user, item)

    def lengths(self, pairs: TokenisedPairs) -> NDArray[np.int64]:
        """The number of tokens of each pair, special ones too, int64 [n]."""
        user, item = self._kept(pairs)
        return user + item + self._template.size

    def batch(self, pairs: TokenisedPairs, *, multiple: int = 1) -> PairBatch:
        """All the pairs as one batch, padded to the longest, rounded up to a multiple."""
        user_sizes, item_sizes = self._kept(pairs)
        longest = int((user_sizes + item_sizes).max(initial=0)) + self._template.size
        width = -(-longest // multiple) * multiple
        ids = np.full((len(pairs.user), width), self._pad_id, np.int64)
        types = np.zeros((len(pairs.user), width), np.int64)
        mask = np.zeros((len(pairs.user), width), np.int64)
        for line, (user, item) in enumerate(zip(pairs.user, pairs.item, strict=True)):
            parts = self._parts(pairs.users[user][: user_sizes[line]], pairs.items[item][: item_sizes[line]])
            tokens = np.concatenate(parts)
            ids[line, : len(tokens)] = tokens
            mask[line, : len(tokens)] = 1
            types[line, : len(tokens)] = np.repeat(self._template.types, [len(part) for part in parts])
        return PairBatch(ids, mask, types)

    def _parts(self, user: NDArray[np.int32], item: NDArray[np.int32]) -> tuple[NDArray[np.int32], ...]:
        return self._template.before, user, self._template.between, item, self._template.after

    def _kept(self, pairs: TokenisedPairs) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """How many tokens of each user's and each item's text stay."""
        user, item = pairs.users.lengths[pairs.user], pairs.items.lengths[pairs.item]
        user = np.minimum(user, np.maximum(self._room - item, self._room // USER_SHARE))
        return user, np.minimum(item, self._room - user)

    def _distinct(self, texts: TextByRow, wanted: NDArray[np.int64]) -> tuple[TokenLists, NDArray[np.int64]]:
        rows, place = np.unique(wanted, return_inverse=True)
        first: dict[str, int] = {}
        number = np.fromiter((first.setdefault(texts[row], len(first)) for row in rows.tolist()), np.int64, len(rows))
        return self.encode(list(first)), number[place]


def _template(tokenizer: Tokenizer) -> _Template:
    """Read the special tokens of a pair off a tokenised one, so that any model's own template serves."""
    pair = tokenizer.encode("a", "b")
    owners, ids, types = pair.sequence_ids, np.asarray(pair.ids, np.int32), pair.type_ids
    if 0 not in owners or 1 not in owners:
        raise BadBundle("the tokenizer has no tokens for the letters a and b; it cannot read pairs of texts")
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
